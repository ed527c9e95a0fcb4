"""The processes beside the daemon: launcher, monitors, workers."""
