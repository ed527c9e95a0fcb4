"""`hooper completion`: the script that makes a shell complete hooper's commands, flags and names."""

from __future__ import annotations

import click

from hooper.cli.command import command
from hooper.cli.errors import BadFlag

_BASH = r"""# bash completion for hooper: eval "$(hooper completion bash)"
_hooper() {
    local line action
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :files|:directories)
                action=-f; [[ $line == :directories ]] && action=-d
                # Names of containers must not be quoted as if they were files.
                (( ${#COMPREPLY[@]} )) || compopt -o filenames
                while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen $action -- "$2") ;;
            *) COMPREPLY+=("$line"); case $line in *[:=]) compopt -o nospace ;; esac ;;
        esac
    done < <(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_WORDBREAKS="$COMP_WORDBREAKS" \
        "$1" __complete bash 2>/dev/null)
}
complete -F _hooper hooper
"""
_ZSH = r"""#compdef hooper
# zsh completion for hooper: eval "$(hooper completion zsh)"
_hooper() {
    local line value help files
    local -a described spaceless
    while IFS= read -r line; do
        value=${line%%$'\t'*} help=""
        [[ $line == *$'\t'* ]] && help=${line#*$'\t'}
        case $value in
            :files) files=f ;;
            :directories) files=d ;;
            *[:=]) spaceless+=("$value") ;;
            *) described+=("${value//:/\\:}${help:+:$help}") ;;
        esac
    done < <("${words[1]}" __complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( ${#spaceless} )) && compadd -S '' -- "${spaceless[@]}"
    (( ${#described} )) && _describe -V hooper described
    [[ $files == f ]] && _files
    [[ $files == d ]] && _files -/
    return 0
}
if (( ! ${+functions[compdef]} )); then
    autoload -Uz compinit && compinit
fi
compdef _hooper hooper
"""
_FISH = r"""# fish completion for hooper: hooper completion fish | source
function __hooper_complete
    set -l typed (commandline -ct)
    for line in (hooper __complete fish (commandline -opc)[2..-1] "$typed" 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path "$typed"
            case :directories
                __fish_complete_directories "$typed"
            case '*'
                printf '%s\n' $line
        end
    end
end
complete -c hooper -f -a '(__hooper_complete)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@command("completion", "bash|zsh|fish")
@click.argument("shell")
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    For example, in ~/.bashrc: eval "$(hooper completion bash)"
    """
    if shell not in SCRIPTS:
        raise BadFlag("completion", shell, f"it is none of {', '.join(SCRIPTS)}", "hooper completion bash")
    print(SCRIPTS[shell], end="")
