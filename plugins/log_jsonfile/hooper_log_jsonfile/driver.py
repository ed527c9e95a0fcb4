"""The log driver json-file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from hooper.api.logs import LogDriver, LogEntry, LogQuery, LogTarget, LogWriter, Running
from hooper_log_jsonfile.options import JsonFileConfig, log_path, parse
from hooper_log_jsonfile.writer import JsonFileWriter


class JsonFileDriver(LogDriver):
    """Keeps output in <container id>-json.log in the container's directory, in Docker's format."""

    def __init__(self, name: str, config: object) -> None:
        super().__init__(name, config)
        self._config = config if isinstance(config, JsonFileConfig) else JsonFileConfig()

    def check(self, options: Mapping[str, str]) -> None:
        """See LogDriver."""
        parse(options, self._config)

    def writer(self, target: LogTarget) -> LogWriter:
        """See LogDriver."""
        return JsonFileWriter(target, parse(target.options, self._config))

    def read(self, target: LogTarget, query: LogQuery, running: Running) -> AsyncIterator[list[LogEntry]]:
        """See LogDriver."""
        # The monitor, which only writes, does not load the reader and what it needs.
        from hooper.api.log_reading import Reader
        from hooper_log_jsonfile.decoding import JsonLines

        return Reader(log_path(target), JsonLines(query.details), query).batches(running)
