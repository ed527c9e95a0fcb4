"""The processes beside the daemon: launcher, monitors, workers."""

from hooper.api.imports import import_without

# The launcher is forked for every container, with all that it has imported. For one name that msgspec can do without,
# this package would bring inspect, ast, dis and tokenize: a megabyte and a half.
import_without("msgspec", "typing_extensions")
