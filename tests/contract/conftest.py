"""Servers and clients that the contract's tests share."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import openai
import pytest
from api_server import RunningServer, running_server
from search_server import SearchServer, serving_search

from tiny_models import save_tiny_model


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of two layers that servers can be started with."""
    return save_tiny_model(tmp_path_factory.mktemp("base") / "tiny-chat", "qwen2")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Iterator[RunningServer]:
    """A server whose worker really trains."""
    with running_server(tmp_path_factory.mktemp("served"), [tiny_model_folder]) as running:
        yield running


@pytest.fixture(scope="session")
def idle_server(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Iterator[RunningServer]:
    """A server without a worker: its jobs stay as they were created."""
    with running_server(tmp_path_factory.mktemp("idle"), [tiny_model_folder], workers=0) as running:
        yield running


@pytest.fixture(scope="session")
def search_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchServer]:
    """A server that searches, and takes in what is attached."""
    with serving_search(tmp_path_factory.mktemp("searched")) as running:
        yield running


@pytest.fixture
def search_client(search_server: SearchServer) -> Iterator[openai.OpenAI]:
    """The official client of the searching server, in an empty project."""
    with search_server.client(search_server.new_key(f"project-{secrets.token_hex(6)}")) as client:
        yield client


@pytest.fixture
def new_client(request: pytest.FixtureRequest) -> Iterator[Callable[[RunningServer], openai.OpenAI]]:
    """`new_client(server)`: the official client in a project of its own, where nothing is yet."""
    made = []

    def new(running: RunningServer) -> openai.OpenAI:
        made.append(running.client(running.new_key(f"project-{secrets.token_hex(6)}")))
        return made[-1]

    yield new
    for client in made:
        client.close()


@pytest.fixture
def client(server: RunningServer, new_client: Callable[[RunningServer], openai.OpenAI]) -> openai.OpenAI:
    """The official client of the working server, in an empty project."""
    return new_client(server)


@pytest.fixture
def idle_client(idle_server: RunningServer, new_client: Callable[[RunningServer], openai.OpenAI]) -> openai.OpenAI:
    """The official client of the idle server, in an empty project."""
    return new_client(idle_server)


@pytest.fixture
def raw(idle_server: RunningServer) -> Iterator[httpx2.Client]:
    """Plain HTTP to the idle server, with a key of an empty project."""
    with idle_server.raw(idle_server.new_key(f"project-{secrets.token_hex(6)}")) as http:
        yield http
