"""The command table: what there is, in which module, and its one line of help. Nothing is imported for it."""

from __future__ import annotations

Entry = tuple[str, str]
"""("module:attribute" or "group:NAME", help)."""

_RUN = ("hooper.cli.run:run", "Create and run a new container from an image")
_CREATE = ("hooper.cli.run:create", "Create a new container")
_EXEC = ("hooper.cli.execute:execute", "Execute a command in a running container")
_PS = ("hooper.cli.ps:ps", "List containers")
_BUILD = ("hooper.cli.build:build", "Build an image from a Dockerfile")
_PULL = ("hooper.cli.transfer:pull", "Download an image from a registry")
_PUSH = ("hooper.cli.transfer:push", "Upload an image to a registry")
_IMAGES = ("hooper.cli.images:images", "List images")
_ATTACH = ("hooper.cli.attach:attach", "Attach local standard input, output, and error streams to a running container")
_COMMIT = ("hooper.cli.snapshots:commit", "Create a new image from a container's changes")
_CP = ("hooper.cli.copy:copy", "Copy files/folders between a container and the local filesystem")
_DIFF = ("hooper.cli.observe:diff", "Inspect changes to files or directories on a container's filesystem")
_EXPORT = ("hooper.cli.snapshots:export", "Export a container's filesystem as a tar archive")
_HISTORY = ("hooper.cli.images:history", "Show the history of an image")
_IMPORT = (
    "hooper.cli.snapshots:import_image",
    "Import the contents from a tarball to create a filesystem image",
)
_KILL = ("hooper.cli.lifecycle:kill", "Kill one or more running containers")
_LOAD = ("hooper.cli.transfer:load", "Load an image from a tar archive or STDIN")
_LOGS = ("hooper.cli.logs:logs", "Fetch the logs of a container")
_PAUSE = ("hooper.cli.lifecycle:pause", "Pause all processes within one or more containers")
_PORT = ("hooper.cli.observe:port", "List port mappings or a specific mapping for the container")
_RENAME = ("hooper.cli.lifecycle:rename", "Rename a container")
_RESTART = ("hooper.cli.lifecycle:restart", "Restart one or more containers")
_RM = ("hooper.cli.lifecycle:rm", "Remove one or more containers")
_RMI = ("hooper.cli.images:rmi", "Remove one or more images")
_SAVE = ("hooper.cli.transfer:save", "Save one or more images to a tar archive (streamed to STDOUT by default)")
_START = ("hooper.cli.attach:start", "Start one or more stopped containers")
_STATS = ("hooper.cli.stats:stats", "Display a live stream of container(s) resource usage statistics")
_STOP = ("hooper.cli.lifecycle:stop", "Stop one or more running containers")
_TAG = ("hooper.cli.images:tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE")
_TOP = ("hooper.cli.observe:top", "Watch all containers, or display the running processes of one")
_UNPAUSE = ("hooper.cli.lifecycle:unpause", "Unpause all processes within one or more containers")
_UPDATE = ("hooper.cli.update:update", "Update configuration of one or more containers")
_WAIT = ("hooper.cli.lifecycle:wait", "Block until one or more containers stop, then print their exit codes")
_EVENTS = ("hooper.cli.events:events", "Get real time events from the server")
_INFO = ("hooper.cli.system:info", "Display system-wide information")

SECTIONS: dict[str, dict[str, Entry]] = {
    "Common Commands": {
        "run": _RUN,
        "exec": _EXEC,
        "ps": _PS,
        "build": _BUILD,
        "pull": _PULL,
        "push": _PUSH,
        "images": _IMAGES,
        "login": ("hooper.cli.login:login", "Authenticate to a registry"),
        "logout": ("hooper.cli.login:logout", "Log out from a registry"),
        "search": ("hooper.cli.search:search", "Search a registry for images"),
        "version": ("hooper.cli.system:version", "Show the version information of client and daemon"),
        "info": _INFO,
        "demo": ("hooper.cli.demo:demo", "Show what hooper does, on this machine, in a minute"),
    },
    "Management Commands": {
        "builder": ("group:builder", "Manage builds"),
        "buildx": ("group:buildx", "The same, by the name of docker's plugin"),
        "config": ("hooper.cli.config:config", "Show the configuration of this host"),
        "container": ("group:container", "Manage containers"),
        "context": ("group:context", "Manage contexts: the daemons that one works with"),
        "daemon": ("hooper.daemon.main:daemon_command", "Run the daemon"),
        "image": ("group:image", "Manage images"),
        "manifest": ("group:manifest", "Manage image manifests and lists of them"),
        "network": ("group:network", "Manage networks"),
        "plugin": ("group:plugin", "See the plugins and how they are"),
        "system": ("group:system", "Manage hooper"),
        "volume": ("group:volume", "Manage volumes"),
    },
    "Commands": {
        "attach": _ATTACH,
        "commit": _COMMIT,
        "completion": ("hooper.cli.completion:completion", "Print the completion script for a shell"),
        "cp": _CP,
        "create": _CREATE,
        "diff": _DIFF,
        "events": _EVENTS,
        "export": _EXPORT,
        "history": _HISTORY,
        "import": _IMPORT,
        "inspect": ("hooper.cli.inspect:inspect", "Return low-level information on objects"),
        "kill": _KILL,
        "load": _LOAD,
        "logs": _LOGS,
        "pause": _PAUSE,
        "port": _PORT,
        "rename": _RENAME,
        "restart": _RESTART,
        "rm": _RM,
        "rmi": _RMI,
        "save": _SAVE,
        "start": _START,
        "stats": _STATS,
        "stop": _STOP,
        "tag": _TAG,
        "top": _TOP,
        "unpause": _UNPAUSE,
        "update": _UPDATE,
        "wait": _WAIT,
    },
}

GROUPS: dict[str, dict[str, Entry]] = {
    "container": {
        "attach": _ATTACH,
        "commit": _COMMIT,
        "cp": _CP,
        "create": _CREATE,
        "diff": _DIFF,
        "exec": _EXEC,
        "export": _EXPORT,
        "inspect": ("hooper.cli.inspect:inspect_container", "Display detailed information on one or more containers"),
        "kill": _KILL,
        "load": ("hooper.cli.move:load", "Load a container from a file that `container save` wrote"),
        "logs": _LOGS,
        "ls": _PS,
        "move": ("hooper.cli.move:move", "Move a container to another hooper, with all that belongs to it"),
        "pause": _PAUSE,
        "port": _PORT,
        "prune": ("hooper.cli.prune:prune_containers", "Remove all stopped containers"),
        "rename": _RENAME,
        "restart": _RESTART,
        "rm": _RM,
        "run": _RUN,
        "save": ("hooper.cli.move:save", "Save a container, with all that belongs to it, to a file"),
        "start": _START,
        "stats": _STATS,
        "stop": _STOP,
        "top": _TOP,
        "unpause": _UNPAUSE,
        "update": _UPDATE,
        "wait": _WAIT,
    },
    "image": {
        "build": _BUILD,
        "copy": ("hooper.cli.image_copy:copy", "Copy an image between registries and layouts"),
        "diff": ("hooper.cli.image_diff:diff", "Show how two images differ"),
        "history": _HISTORY,
        "import": _IMPORT,
        "inspect": ("hooper.cli.inspect:inspect_image", "Display detailed information on one or more images"),
        "load": _LOAD,
        "ls": _IMAGES,
        "prune": ("hooper.cli.prune:prune_images", "Remove unused images"),
        "pull": _PULL,
        "push": _PUSH,
        "rm": _RMI,
        "save": _SAVE,
        "tag": _TAG,
        "tree": ("hooper.cli.image_tree:tree", "List images, and what they hold for several platforms, as a tree"),
        "verify": ("hooper.cli.image_verify:verify", "Verify the signatures of an image in its registry"),
    },
    "manifest": {
        "annotate": ("hooper.cli.manifest:annotate", "Add information to a manifest of a local list"),
        "create": ("hooper.cli.manifest:create", "Create a local list of manifests, to be annotated and pushed"),
        "inspect": ("hooper.cli.manifest:inspect", "Display an image manifest, or a list of them"),
        "push": ("hooper.cli.manifest:push", "Push a list of manifests to a registry"),
        "rm": ("hooper.cli.manifest:rm", "Delete one or more local lists of manifests"),
    },
    "network": {
        "connect": ("hooper.cli.network:connect", "Connect a container to a network"),
        "create": ("hooper.cli.network:create", "Create a network"),
        "disconnect": ("hooper.cli.network:disconnect", "Disconnect a container from a network"),
        "inspect": ("hooper.cli.inspect:inspect_network", "Display detailed information on one or more networks"),
        "ls": ("hooper.cli.network:ls", "List networks"),
        "prune": ("hooper.cli.prune:prune_networks", "Remove all unused networks"),
        "rm": ("hooper.cli.network:rm", "Remove one or more networks"),
    },
    "volume": {
        "create": ("hooper.cli.volume:create", "Create a volume"),
        "inspect": ("hooper.cli.inspect:inspect_volume", "Display detailed information on one or more volumes"),
        "ls": ("hooper.cli.volume:ls", "List volumes"),
        "prune": ("hooper.cli.prune:prune_volumes", "Remove unused local volumes"),
        "rm": ("hooper.cli.volume:rm", "Remove one or more volumes"),
    },
    "context": {
        "create": ("hooper.cli.contexts:create", "Create a context"),
        "export": ("hooper.cli.contexts:export", "Export a context to a tar archive FILE or a tar stream on STDOUT"),
        "import": ("hooper.cli.contexts:import_context", "Import a context from a tar file"),
        "inspect": ("hooper.cli.contexts:inspect", "Display detailed information on one or more contexts"),
        "ls": ("hooper.cli.contexts:ls", "List contexts"),
        "rm": ("hooper.cli.contexts:rm", "Remove one or more contexts"),
        "show": ("hooper.cli.contexts:show", "Print the name of the current context"),
        "update": ("hooper.cli.contexts:update", "Update a context"),
        "use": ("hooper.cli.contexts:use", "Set the current context"),
    },
    "system": {
        "dial-stdio": ("hooper.cli.system:dial_stdio", "Connect standard input and output to the daemon, for ssh"),
        "df": ("hooper.cli.usage:df", "Show disk usage"),
        "events": _EVENTS,
        "info": _INFO,
        "prune": ("hooper.cli.prune:prune_system", "Remove unused data"),
    },
    "builder": {
        "build": _BUILD,
        "du": ("hooper.cli.builder:du", "Show what the build cache takes on the disk"),
        "prune": ("hooper.cli.builder:prune", "Remove build cache"),
    },
    "buildx": {
        "build": _BUILD,
        "du": ("hooper.cli.builder:du", "Show what the build cache takes on the disk"),
        "prune": ("hooper.cli.builder:prune", "Remove build cache"),
    },
    "plugin": {
        "doctor": ("hooper.cli.plugin:doctor", "Check every plugin; fails if an active one is broken"),
        "inspect": ("hooper.cli.plugin:inspect", "Display all that is known of one or more plugins"),
        "ls": ("hooper.cli.plugin:ls", "List plugins and drivers"),
    },
}

ALIASES = {
    "container": {"list": "ls", "ps": "ls", "remove": "rm"},
    "image": {"list": "ls", "remove": "rm"},
    "network": {"list": "ls", "remove": "rm"},
    "volume": {"list": "ls", "remove": "rm"},
    "plugin": {"list": "ls"},
    "context": {"list": "ls", "remove": "rm"},
    "buildx": {"b": "build"},
}

_ONE_HOST = "hooper works on one host at a time and has no swarm; `hooper context` names several hosts."
ABSENT = {
    **dict.fromkeys(("node", "secret", "service", "stack", "swarm"), _ONE_HOST),
    "checkpoint": "`hooper container move` and `save` carry containers elsewhere.",
    "compose": "docker-compose works with hooper: set DOCKER_HOST to the daemon's address.",
    "trust": "`hooper image verify` verifies cosign's signatures, and an image policy asks for them.",
}
"""What to say to those who look for a command of docker's that hooper has not."""
