"""Go's text/template, as far as people use it with --format and in a log's tag."""
