"""Names of containers on users' networks, answered at 127.0.0.11 in each of those containers.

One process a daemon, the *resolver*, has a socket in every such container's network namespace and answers there. It
outlives the daemon, as monitors do; the next daemon finds it again and brings its table up to date.

`table` and `answers` are pure; `forwarding`, `listening` and `streams` work on the resolver's event loop, which
`process` puts together; `client` is the daemon's side, and `protocol` what the two say to each other.
"""
