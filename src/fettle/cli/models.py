"""`fettle models`: what the server serves, other names for it, and tuned models for other tools."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from fettle.cli.document_choices import NO_RERANKER
from fettle.cli.export import Format, Out, Weights, export_and_say
from fettle.cli.named_index import named_index
from fettle.cli.tables import print_table
from fettle.errors import ConfigError, ModelError
from fettle.export.settings import ExportFormat
from fettle.retrieval.records import SearchMethod

if TYPE_CHECKING:
    from fettle.store.database import Store
    from fettle.store.models import BaseModel, TunedModel

app = typer.Typer(no_args_is_help=True, help="Models of the server: base models, tuned ones, and aliases.")
Name = Annotated[str, typer.Argument(help="As `fettle models list` shows it, or an alias.")]
_MOST_ALIAS_LENGTH = 255
_DEFAULT_PROJECT = "default"
_NUM_PASSAGES = 5


@app.command("list")
def list_() -> None:
    """Show all models, of all projects."""
    from fettle.cli.store import open_store
    from fettle.store.keys import list_projects
    from fettle.store.models import list_aliases, list_base_models, list_tuned_models

    store = open_store()
    with store.reading() as connection:
        bases, tuned = list_base_models(connection), list_tuned_models(connection)
        aliases, projects = list_aliases(connection), list_projects(connection)
    rows = [(model, "", "") for model in bases]
    rows += [(model, projects[model.project_id].name, model.job_id or "") for model in tuned]
    lines = []
    for model, project, job in rows:
        others = ", ".join(alias for alias, target in aliases.items() if target == model.id)
        lines.append((model.id, _kind(model), project, _size(store, model), job, others))
    print_table(("model", "kind", "project", "size on disk", "job", "aliases"), lines)


@app.command()
def show(name: Name) -> None:
    """Show what is known of a model."""
    from fettle.cli.store import open_store
    from fettle.store.keys import list_projects
    from fettle.store.model_indexes import attached_indexes
    from fettle.store.models import TunedModel, find_model_of_any_project, folder_of, list_aliases, list_tuned_models

    store = open_store()
    with store.reading() as connection:
        model = find_model_of_any_project(connection, name)
        aliases = [alias for alias, target in list_aliases(connection).items() if target == model.id]
        facts = {"model": model.id, "kind": _kind(model), "size on disk": _size(store, model)}
        if isinstance(model, TunedModel):
            facts["base model"] = model.base
            facts["project"] = list_projects(connection)[model.project_id].name
            facts["job"] = model.job_id or "none"
            facts["files"] = str(folder_of(store, model))
        else:
            tuned = [other.id for other in list_tuned_models(connection) if other.base == model.id]
            facts["files"] = model.source
            facts["tuned from it"] = ", ".join(tuned) or "nothing"
        projects = list_projects(connection)
        searched = [
            f"{projects[one.project_id].name}: {one.index_id}"
            for one in attached_indexes(connection)
            if one.model == model.id
        ]
    facts["indexes"] = ", ".join(searched) or "none"
    facts["aliases"] = ", ".join(aliases) or "none"
    facts["made"] = datetime.fromtimestamp(model.created_at).astimezone().strftime("%Y-%m-%d %H:%M")
    for title, value in facts.items():
        typer.echo(f"{title + ':':<15} {value}")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="A folder, a GGUF file, or org/name, which is downloaded.")],
) -> None:
    """Serve a base model, which can then be asked and tuned."""
    from fettle.cli.store import open_store
    from fettle.models.resolve import EMBEDDED_ID, resolve_model
    from fettle.store.models import list_tuned_models, put_base_model

    found = resolve_model(name)
    source = EMBEDDED_ID if found.public_id == EMBEDDED_ID else str(found.path.resolve())
    with open_store().writing() as connection:
        tuned = [model for model in list_tuned_models(connection) if model.base == found.public_id]
        others = [model.id for model in tuned if model.base_sha256 != found.sha256()]
        if others:
            raise ConfigError(
                f"{found.public_id} is another model already, from which {', '.join(others)} were tuned",
                where=name,
                remedy="give the folder or file another name, which becomes the model's",
            )
        put_base_model(connection, found.public_id, source)
    typer.echo(f"Served as {found.public_id}: {found.path}")


@app.command()
def remove(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Even where a release in force answers with it.")] = False,
) -> None:
    """Delete a tuned model with its weights, or serve a base model no longer (its files stay where they are).

    Refused where a release that is in force, or that a rollback returns to, answers with it.
    """
    from fettle.cli.store import open_store
    from fettle.models.resolve import EMBEDDED_ID
    from fettle.releases.needed import require_unneeded
    from fettle.retrieval.embedder import EMBEDDER_ID
    from fettle.store.models import TunedModel, find_model_of_any_project, remove_base_model, remove_tuned_model

    store = open_store()
    with store.writing() as connection:
        model = find_model_of_any_project(connection, name)
        if not force:
            require_unneeded(
                connection, model=model.id, remedy=", or add --force: those releases are refused from then on"
            )
        if not isinstance(model, TunedModel):
            remove_base_model(connection, model.id)
    if isinstance(model, TunedModel):
        remove_tuned_model(store, model.project_id, model.id)
    comes_again = model.id in (EMBEDDED_ID, EMBEDDER_ID)
    typer.echo(
        f"Removed: {model.id}" + (", until `fettle serve` starts again: it comes with Fettle" if comes_again else "")
    )


@app.command()
def alias(
    new_name: Annotated[str, typer.Argument(help="Another name, such as gpt-4o-mini-2024-07-18.")], name: Name
) -> None:
    """Let a name mean a model, so that a script that has it needs no change."""
    from fettle.cli.store import open_store
    from fettle.store.models import find_model_of_any_project, put_alias

    if not new_name or len(new_name) > _MOST_ALIAS_LENGTH or not new_name.isprintable() or " " in new_name:
        raise ConfigError(
            f"expected a name of 1 to {_MOST_ALIAS_LENGTH} characters without spaces, and it is {new_name[:300]!r}",
            remedy="give the name that the script has",
        )
    with open_store().writing() as connection:
        target = find_model_of_any_project(connection, name)
        put_alias(connection, new_name, target.id)
    typer.echo(f"{new_name} means {target.id}")


@app.command()
def unalias(old_name: Annotated[str, typer.Argument(metavar="ALIAS", help="The alias.")]) -> None:
    """Let an alias mean nothing any more."""
    from fettle.cli.store import open_store
    from fettle.store.models import remove_alias

    with open_store().writing() as connection:
        remove_alias(connection, old_name)
    typer.echo(f"Removed: {old_name}")


@app.command()
def attach(
    name: Name,
    index: Annotated[str, typer.Option(help="Name or id of an index, as `fettle index` made it.")],
    passages: Annotated[
        int | None, typer.Option("--passages", "-k", min=1, max=50, help="Shown at most; at first 5.")
    ] = None,
    method: Annotated[
        SearchMethod | None, typer.Option(help="How they are looked for; at first hybrid.", show_default=False)
    ] = None,
    reranker: Annotated[
        str | None,
        typer.Option(help="What looks at them once more: late-interaction, a cross-encoder, or none; at first none."),
    ] = None,
    abstention: Annotated[
        str | None, typer.Option(help="What to say where they do not answer; an empty text: nothing is told.")
    ] = None,
    citations: Annotated[
        bool | None,
        typer.Option("--citations/--no-citations", help="Whether answers end with their numbers; at first they do."),
    ] = None,
    system: Annotated[
        bool | None,
        typer.Option(
            "--system/--no-system", help="Whether what system messages ask is searched for; at first it is not."
        ),
    ] = None,
    project: Annotated[
        str, typer.Option(help="Whose index it is; the answers of its keys alone change.")
    ] = _DEFAULT_PROJECT,
) -> None:
    """Let the server search an index before a model answers, and show the model what it has found.

    What is left out stays as it is where the model has an index already, such as that of the study it was tuned in.
    """
    from fettle.cli.store import open_store
    from fettle.retrieval.fence import ABSTENTION
    from fettle.store.model_indexes import AttachedIndex, attach_index, index_of_model
    from fettle.store.models import find_model

    with open_store().writing() as connection:
        found = named_index(connection, project, index)
        model = find_model(connection, found.project_id, name)
        before = index_of_model(connection, model.id, found.project_id) or AttachedIndex(
            model=model.id,
            project_id=found.project_id,
            index_id=found.id,
            num_passages=_NUM_PASSAGES,
            method=SearchMethod.HYBRID.value,
            abstention=ABSTENTION,
        )
        attached = replace(
            before,
            index_id=found.id,
            num_passages=before.num_passages if passages is None else passages,
            method=before.method if method is None else method.value,
            reranker=before.reranker if reranker is None else _unless(reranker, NO_RERANKER),
            abstention=before.abstention if abstention is None else _unless(abstention.strip(), ""),
            asks_for_citations=before.asks_for_citations if citations is None else citations,
            system_begin=before.system_begin if system is None else (before.system_begin or "") if system else None,
            system_end=before.system_end if system is not False else "",
        )
        attach_index(connection, attached)
    typer.echo(f"{model.id} answers the project {project} from {found.name or found.id} from now on:")
    typer.echo(
        f"  up to {attached.num_passages} passages, search {attached.method}, reranker {attached.reranker or NO_RERANKER}, "
        f"{'with' if attached.asks_for_citations else 'without'} citations"
    )
    if attached.system_begin is not None:
        typer.echo("  searched for: what the user says, and what the system message asks")
    typer.echo(f"  where they do not answer: {attached.abstention or 'nothing is told'}")


@app.command()
def detach(
    name: Name,
    project: Annotated[str, typer.Option(help="Whose answers shall change.")] = _DEFAULT_PROJECT,
) -> None:
    """Let a model answer without an index again."""
    from fettle.cli.store import open_store
    from fettle.store.keys import list_projects
    from fettle.store.model_indexes import detach_index
    from fettle.store.models import find_model_of_any_project

    with open_store().writing() as connection:
        model = find_model_of_any_project(connection, name)
        ids = [one.id for one in list_projects(connection).values() if one.name == project]
        if not any(detach_index(connection, model.id, project_id) for project_id in ids):
            raise ConfigError(
                f"{model.id} answers the project {project!r} without an index",
                remedy=f"`fettle models show {model.id}` says which projects it answers with one; --project names one",
            )
    typer.echo(f"{model.id} answers the project {project} without an index from now on")


@app.command()
def export(name: Name, out: Out, format_: Format = ExportFormat.MERGED, weight_type: Weights = None) -> None:
    """Write a tuned model for other tools. What is written is read back, and must answer as the tuned model does."""
    from fettle.cli.store import open_store
    from fettle.export.kept import settings_for_kept

    export_and_say(settings_for_kept(open_store(), name, out, format_=format_, weight_type=weight_type))


def _unless(text: str, nothing: str) -> str | None:
    return None if text == nothing else text


def _kind(model: BaseModel | TunedModel) -> str:
    from fettle.store.models import TunedModel

    if not isinstance(model, TunedModel):
        return "base"
    return "tuned" if model.step is None else f"checkpoint, step {model.step}"


def _size(store: Store, model: BaseModel | TunedModel) -> str:
    from fettle.files import iter_files
    from fettle.models.resolve import resolve_model
    from fettle.store.models import TunedModel, folder_of
    from fettle.study.figures import byte_size

    if isinstance(model, TunedModel):
        return byte_size(sum(file.stat().st_size for file in iter_files(folder_of(store, model))))
    try:
        return byte_size(resolve_model(model.source).num_weight_bytes)
    except ModelError:
        return "not there"
