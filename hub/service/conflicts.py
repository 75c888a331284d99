"""
Settings of one configuration that cannot work together: sources and sinks at the same place, or in a circle, and rules
of retention that are never used.

Always true: each fault is one sentence that says what to change.

Not here: the values of one table (hub.service.config), files that overlap (hub.sinks.overlap), what only the machine
knows (hub.service.preflight).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

from hub.journal.tagrules import TagRule, covers
from hub.sinks.kinds import AnySink, File, Forward
from hub.sinks.kinds import Jetstream as JetstreamSink
from hub.sinks.overlap import is_followed, leads_into
from hub.sinks.pathtemplate import PathTemplate
from hub.sinks.table import SINKS_MAX
from hub.sources.kinds import AnySource, Files, Http, Jetstream, Journald, Kmsg
from hub.sources.table import SOURCES_MAX


def check_conflicts(socket: str, journal: str, sources: Sequence[AnySource], sinks: Sequence[AnySink]) -> None:
    """Raise ValueError if a hub with this socket and journal cannot have these *sources* and *sinks*."""
    _check_sinks(sinks)
    if len(sources) > SOURCES_MAX:
        raise ValueError(f"there are {len(sources)} sources (at most {SOURCES_MAX})")
    for sink in sinks:
        if isinstance(sink, Forward):
            _check_servers(sink, {socket, *(source.where for source in sources)})
    for sink in sinks:
        if isinstance(sink, File):
            _check_files(sink, journal, sources)
        if isinstance(sink, JetstreamSink) and sink.format == "blocks":
            _check_stream(sink, sources)
    _check_sources(socket, sources)


def check_retention(rules: Sequence[TagRule], *, journal_size: int) -> None:
    """Raise ValueError if one of the *rules* has no effect in a journal of this size."""
    for number, rule in enumerate(rules):
        earlier = next((each.tag for each in rules[:number] if covers(each.tag, rule.tag)), None)
        if earlier is not None:
            raise ValueError(
                f"retain[{number}]: the rule for {rule.tag} is never used, because the first that matches applies, and "
                f"{earlier} stands before it (put it before that one, or leave it out)"
            )
        if rule.size is not None and rule.size > journal_size:
            raise ValueError(f"retain[{number}]: the size for {rule.tag} is above journal_size (choose a smaller one)")


def _check_sinks(sinks: Sequence[AnySink]) -> None:
    """Raise ValueError if there are too many *sinks*, or two of them are in each other's way."""
    if len(sinks) > SINKS_MAX:
        raise ValueError(f"there are {len(sinks)} sinks (at most {SINKS_MAX})")
    names, paths = [str(sink.name) for sink in sinks], [str(sink.path) for sink in sinks if isinstance(sink, File)]
    for given, what in ((names, "name"), (paths, "path")):
        if twice := next((each for each in given if given.count(each) > 1), None):
            raise ValueError(f"two sinks have the {what} {twice} (choose another {what})")
    blocks = [sink.destination for sink in sinks if isinstance(sink, JetstreamSink) and sink.format == "blocks"]
    if twice := next((each for each in blocks if blocks.count(each) > 1), None):
        raise ValueError(f"two sinks ship blocks to {twice} (leave one of them out)")
    for one, two in itertools.combinations([sink for sink in sinks if isinstance(sink, File)], 2):
        if path := PathTemplate(one.path).meets(PathTemplate(two.path)):
            raise ValueError(f"the sinks {one.name} and {two.name} can write to the same file {path} (use two folders)")


def _check_servers(sink: Forward, ways_in: set[str]) -> None:
    """Raise ValueError if *sink* sends to one of *ways_in* of its own hub."""
    if back := ways_in.intersection(sink.servers):
        raise ValueError(f"the sink {sink.name} leads back to this hub: {min(back)} (choose another server)")


def _check_files(sink: File, journal: str, sources: Sequence[AnySource]) -> None:
    """Raise ValueError if the files of *sink* would be read again, or be in the way of the hub's own."""
    if leads_into(sink.path, journal):
        raise ValueError(f"the sink {sink.name} can write into the folder of the journal (choose another folder)")
    for source in sources:
        if isinstance(source, Files) and (glob := is_followed(sink.path, source.paths, source.excluded)):
            raise ValueError(
                f"the sink {sink.name} writes files that a source of this hub follows: {glob} (choose another "
                "folder, or exclude them there)"
            )


def _check_stream(sink: JetstreamSink, sources: Sequence[AnySource]) -> None:
    """
    Raise ValueError if *sink* ships to the subjects that a source reads. With three such hubs, the messages of one
    would circulate between the two others for ever.
    """
    place = sink.stream, sink.prefix
    for source in sources:
        if not isinstance(source, Jetstream) or (source.stream, source.subject) != place:
            continue
        if set(source.servers).intersection(sink.servers):
            raise ValueError(
                f"the sink {sink.name} leads back to this hub: a source reads {source.where} (choose another "
                "stream, with other subjects)"
            )


def _check_sources(socket: str, sources: Sequence[AnySource]) -> None:
    """Raise ValueError if two *sources* have one place, or other users could reach HTTP without a token."""
    taken = {socket: "the hub's socket"}
    for source in sources:
        where, what = source.where, "path" if os.path.isabs(source.where) else "address"
        if where in taken and isinstance(source, Journald | Kmsg):
            raise ValueError(f"two sources read {where} (leave one of them out)")
        if where in taken:
            raise ValueError(f"a source has the {what} of {taken[where]}: {where} (choose another {what})")
        taken[where] = "another source"
        if isinstance(source, Http) and source.address is not None and source.token_file is None:
            raise ValueError(f"every user of this host can reach {where}: HTTP needs a token_file there")
