"""Files to a dataset: every row becomes an example or a finding that says where it is, what is wrong and what to do."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fettle.errors import DataError
from fettle.examples.archives import DATA_SUFFIXES, PlainFile, open_plain, plain_suffix
from fettle.examples.column_names import ColumnMapping, guess_columns, resolve_columns
from fettle.examples.contexts import with_contexts
from fettle.examples.encoding import require_encoding
from fettle.examples.mojibake import undo_double_encoding
from fettle.examples.notes import Note, UnusableRowError, info, left_out, repaired, warning
from fettle.examples.reader import Row, Rows
from fettle.examples.readers.registry import reader_for
from fettle.examples.row_format import Conversation, RowFormat
from fettle.examples.row_formats.columns import ColumnsFormat
from fettle.examples.row_formats.registry import format_of
from fettle.examples.spoiled_ids import spoiled_id_note
from fettle.examples.unlabelled import fold_unlabelled
from fettle.files import iter_files, sha256_of_file
from fettle.records import Dataset, Example, Finding, Location, Message, Severity

__all__ = ["ColumnMapping", "read_examples"]

_TRAINING_STEMS = ("train", "training")
_HELD_OUT_STEMS = ("valid", "validation", "val", "dev", "test", "testing", "eval")


def read_examples(path: Path, *, columns: ColumnMapping | None = None, encoding: str | None = None) -> Dataset:
    """Every usable example of a file, or of all data files in a folder, with findings about everything else.

    Formats (recognised row by row): OpenAI chat, ShareGPT, prompt/completion and Alpaca as JSON Lines, JSON or tables; records and
    tables (CSV, TSV, Excel, Parquet) with an input and an answer column. Any of them may be compressed and in any common encoding.
    The wanted answer of a conversation is its last message; where that has weight 0, the last answer without, and what follows is
    left out.

    Args:
        path: A file or a folder.
        columns: Which columns hold the input and the answer; None: the format says it, or the column names make it obvious.
        encoding: What text files are encoded in; None: told from their bytes.

    Returns:
        The examples in file order. An example's id is the row's own where it has one that no other row has, else
        `<file name>:<line>`; its source names the file as the user gave it.

    Raises:
        DataError: The path does not exist, or no row of it can be used; the message says why.
        ConfigError: A file cannot be opened, its format needs a package that is not installed, one column was named for both input
            and answer, or there is no such encoding.
    """
    encoding = None if encoding is None else require_encoding(encoding)
    if not path.exists():
        raise _no_such_path(path)
    files, notes_about_folder = _files_at(path)
    readings: list[_Reading] = []
    file_errors: list[Finding] = []
    for file, id_prefix in files:
        try:
            readings.extend(
                _read_file(replace(plain, name=_readable(plain.name), encoding=encoding), columns, _readable(id_prefix))
                for plain in open_plain(file)
            )
        except DataError as error:
            if len(files) == 1:
                raise
            note = left_out("unreadable-file", error.problem, error.remedy or "remove it from the folder")
            file_errors.append(note.about(error.where or str(file)))
    findings = [note.about(str(path)) for note in notes_about_folder] + file_errors
    findings += [finding for reading in readings for finding in reading.findings]
    found = [example for reading in readings for example in reading.examples]
    if not found:
        raise _nothing_usable(path, findings)
    examples, id_findings = _with_unique_ids(found)
    return Dataset(
        name=path.name.partition(".")[0] or path.resolve().name,
        examples=with_contexts(examples),
        findings=tuple(findings + id_findings),
        file_sha256={str(file): sha256_of_file(file) for file, _ in files},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """An example whose name is not decided yet."""

    conversation: Conversation
    source: Location
    fallback_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What one file gave."""

    examples: tuple[_Found, ...]
    findings: tuple[Finding, ...]


def _files_at(path: Path) -> tuple[list[tuple[Path, str]], list[Note]]:
    """(file, name to build ids from) of every file to read."""
    if path.is_file():
        return [(path, path.name)], []
    if not path.is_dir():
        raise DataError("neither a file nor a folder", where=str(path), remedy="give a file of examples")
    inside = list(iter_files(path))
    files = [file for file in inside if plain_suffix(file.name) in DATA_SUFFIXES or file.suffix.lower() == ".zip"]
    others = [file.relative_to(path).as_posix() for file in inside if file not in set(files)]
    if not files:
        seen = f"only {_listed(others)}" if others else "the folder is empty"
        raise DataError(
            f"no data file here: {seen}",
            where=str(path),
            remedy=f"give a file, or a folder with files named {' '.join(sorted(DATA_SUFFIXES))}",
        )
    return [(file, file.relative_to(path).as_posix()) for file in files], [*_passed_over(others), *_like_parts(files)]


def _passed_over(names: Sequence[str]) -> list[Note]:
    text = f"passed over, for their names are not those of data files: {_listed(names)}"
    return [info("other-files", text, "give a file by itself if it holds examples")] if names else []


def _like_parts(files: Sequence[Path]) -> list[Note]:
    """Said of a folder that seems to hold a split made by somebody."""
    by_stem = {file.name.partition(".")[0].lower(): file.name for file in files}
    held_out = [by_stem[stem] for stem in _HELD_OUT_STEMS if stem in by_stem]
    trained = [by_stem[stem] for stem in _TRAINING_STEMS if stem in by_stem]
    if not held_out or not trained:
        return []
    text = f"{', '.join([*trained, *held_out])} are read as one set of examples, and split anew"
    return [
        warning(
            "named-like-parts",
            text,
            "to keep the split, give the training file, and the others with --valid and --test",
        )
    ]


def _readable(name: str) -> str:
    """A file's name with marks for the bytes that are no UTF-8, which could be neither printed nor written."""
    return os.fsencode(name).decode("utf-8", "replace")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _read_file(file: PlainFile, columns: ColumnMapping | None, id_prefix: str) -> _Reading:
    if not file.data.strip():
        raise DataError("the file is empty", where=file.name, remedy="give a file with examples")
    wanted = () if columns is None else (columns.input, columns.answer)
    rows = reader_for(file).read(file, wanted)
    if not rows.rows:
        raise DataError("the file has no row", where=file.name, remedy="give a file with examples")
    by_columns, notes = _columns_format(rows, columns, file.name)
    prefix = id_prefix + (file.name[file.name.index("!") :] if "!" in file.name else "")
    found: list[_Found] = []
    findings = [note.about(file.name) for note in (*_passed_over(file.passed_over), *rows.notes, *notes)]
    of_rows: list[Finding] = []
    for row in rows.rows:
        place = Location(file=file.name, line=row.line)
        conversation, row_notes = _convert(row, by_columns, asked_for_columns=columns is not None)
        of_rows.extend(note.at(place) for note in row_notes)
        if conversation is not None:
            found.append(_Found(conversation=conversation, source=place, fallback_id=f"{prefix}:{row.line}"))
    findings += fold_unlabelled(of_rows, len(rows.rows)) if found else of_rows
    findings += [note.about(file.name) for note in _other_answers(found)]
    return _Reading(examples=tuple(found), findings=tuple(findings))


def _other_answers(found: Sequence[_Found]) -> list[Note]:
    """Said of rows with several right answers: choices of which one is right would make every wrong one count."""
    count = sum(bool(item.conversation.truth.references) for item in found)
    text = f"{count} rows name other answers (`references`, `answers`): graders of texts take each of them for right"
    return [info("other-answers", text, "rename the column if its texts are not all right")] if count else []


def _columns_format(rows: Rows, wanted: ColumnMapping | None, where: str) -> tuple[ColumnsFormat | None, list[Note]]:
    """How to read rows whose keys say nothing; None when the file has rows in a known format and no columns were asked for."""
    parsed = [row.values for row in rows.rows if row.values is not None]
    names = list(dict.fromkeys(str(name) for values in parsed for name in values))
    if wanted is not None:
        if not parsed:
            return None, []
        mapping = resolve_columns(_numbered(wanted, rows.has_header), names, where=where)
        return ColumnsFormat(mapping), []
    if not parsed or any(format_of(values) is not None for values in parsed):
        return None, []
    mapping = guess_columns(names, where=where) if rows.has_header else _guess_by_content(parsed, names, where)
    text = f"input is taken from column {mapping.input!r}, the answer from {mapping.answer!r}"
    return ColumnsFormat(mapping), [info("columns-guessed", text, "name others with --input COLUMN --answer COLUMN")]


def _numbered(wanted: ColumnMapping, has_header: bool) -> ColumnMapping:
    """In a table without a header, `2` means its second column."""
    if has_header:
        return wanted
    names = [f"column {name}" if name and name.isdigit() else name for name in (wanted.id, wanted.group)]
    return ColumnMapping(
        input=f"column {wanted.input}" if wanted.input.isdigit() else wanted.input,
        answer=f"column {wanted.answer}" if wanted.answer.isdigit() else wanted.answer,
        id=names[0],
        group=names[1],
    )


def _guess_by_content(parsed: list[Mapping[str, Any]], names: list[str], where: str) -> ColumnMapping:
    """Two filled columns, of which one holds few different short values and the other many: labels and texts."""
    filled = [
        name for name in names if sum(bool(str(values.get(name, "")).strip()) for values in parsed) * 2 > len(parsed)
    ]
    num_distinct = {name: len({values.get(name) for values in parsed}) for name in filled}
    if len(filled) == 2:
        answer, text = sorted(filled, key=lambda name: num_distinct[name])
        if num_distinct[answer] * 5 <= num_distinct[text]:
            return ColumnMapping(input=text, answer=answer)
    return guess_columns(names, where=where)


def _convert(
    row: Row, by_columns: ColumnsFormat | None, *, asked_for_columns: bool
) -> tuple[Conversation | None, tuple[Note, ...]]:
    if row.values is None:
        return None, row.notes
    row_format: RowFormat | None = by_columns if asked_for_columns else format_of(row.values) or by_columns
    if row_format is None:
        return None, (*row.notes, _unknown_shape(row.values))
    try:
        conversation = row_format.convert(row.values)
    except UnusableRowError as error:
        return None, (*row.notes, error.note)
    conversation, notes = _without_mojibake(conversation)
    if conversation.id and (note := spoiled_id_note(conversation.id)):
        notes = (*notes, note)
    if row_format is not by_columns and row.values.get("weight") not in (None, 1):
        notes = (*notes, _unused_weight(row.values["weight"]))
    return conversation, (*row.notes, *conversation.notes, *notes)


def _unused_weight(weight: Any) -> Note:
    text = f"the weight of the whole row ({str(weight)[:20]}) is not used: all rows count the same"
    return warning(
        "row-weight", text, "give weight 0 to answers that are not to be learned, or leave out rows that are not"
    )


def _unknown_shape(values: Mapping[str, Any]) -> Note:
    names = [str(name) for name in values]
    by_lower_case = {name.lower(): name for name in names}
    near = difflib.get_close_matches("messages", by_lower_case, n=1, cutoff=0.7)
    hint = f"; is {by_lower_case[near[0]]!r} meant as 'messages'?" if near else ""
    text = f"no known form of an example; keys present: {', '.join(names[:10]) or 'none'}{hint}"
    return left_out("unknown-form", text, 'write {"messages": [{"role": "user", …}, {"role": "assistant", …}]}')


def _without_mojibake(conversation: Conversation) -> tuple[Conversation, tuple[Note, ...]]:
    mended: list[Message] = []
    for message in conversation.messages:
        content = undo_double_encoding(message.content)
        mended.append(message if content == message.content else replace(message, content=content))
    messages = tuple(mended)
    if messages == conversation.messages:
        return conversation, ()
    note = repaired(
        "doubly-encoded",
        "doubly encoded characters (such as Â£ for £) were put right",
        "export the file as UTF-8, once",
    )
    return replace(conversation, messages=messages), (note,)


def _with_unique_ids(found: list[_Found]) -> tuple[tuple[Example, ...], list[Finding]]:
    counts = Counter(item.conversation.id for item in found if item.conversation.id)
    taken = {name for name, count in counts.items() if count == 1}
    examples: list[Example] = []
    findings: list[Finding] = []
    for item in found:
        own = item.conversation.id
        name = own
        if own is None or counts[own] > 1:
            name = item.fallback_id
            while name in taken:
                name += "'"
            taken.add(name)
        if own is not None and counts[own] > 1:
            note = repaired(
                "repeated-id",
                f"id {own!r} is used by {counts[own]} rows; {name!r} is used instead",
                "give each row its own",
            )
            findings.append(note.at(item.source))
        examples.append(
            Example(
                id=name or item.fallback_id,
                messages=item.conversation.messages,
                source=item.source,
                tools=item.conversation.tools,
                group=item.conversation.group,
                document_ids=item.conversation.truth.document_ids,
                references=item.conversation.truth.references,
            )
        )
    return tuple(examples), findings


def _no_such_path(path: Path) -> DataError:
    remedy = "check the path"
    parent = path.parent
    if parent.is_dir():
        try:
            near = difflib.get_close_matches(path.name, [entry.name for entry in parent.iterdir()], n=3, cutoff=0.5)
        except OSError:
            near = []
        if near:
            remedy = f"did you mean {' or '.join(near)}?"
    return DataError("no such file or folder", where=str(path), remedy=remedy)


def _nothing_usable(path: Path, findings: list[Finding]) -> DataError:
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if not errors:
        return DataError("no usable row", where=str(path), remedy="give a file with examples")
    code, count = Counter(finding.code for finding in errors).most_common(1)[0]
    first = next(finding for finding in errors if finding.code == code)
    where = f"{first.file}:{first.line}" if first.line else first.file
    return DataError(
        f"no usable row: {len(errors)} left out, {count} of them like the first: {first.message}",
        where=where,
        remedy=first.remedy,
    )
