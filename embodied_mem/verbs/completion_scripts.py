"""The scripts that bash, zsh and fish read: what follows which verb."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embodied_mem.verbs.completion import Option, Words

BASH = r"""# completion of embodied-mem in bash
_embodied_mem() {
    local cur=${COMP_WORDS[COMP_CWORD]} last=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]}
    local flags="" words="" files=1 i
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "@VERBS@ --help --version" -- "$cur")
        return
    fi
    for ((i = COMP_CWORD - 1; i > 1; i--)); do  # several values may follow one flag
        [[ ${COMP_WORDS[i]} == -* ]] && last=${COMP_WORDS[i]} && break
    done
    case $verb in
@FLAGS@
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$flags --help --debug" -- "$cur")
        return
    fi
    case "$verb $last" in
@VALUES@
    esac
    if [[ -n $words ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    elif ((files)); then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}
complete -F _embodied_mem embodied-mem
"""

ZSH = r"""#compdef embodied-mem
# completion of embodied-mem in zsh
_embodied-mem() {
    local -a verbs
    verbs=(
@VERBS@
    )
    if (( CURRENT == 2 )); then
        _describe -t verbs verb verbs
        return
    fi
    local verb=$words[2]
    shift words
    (( CURRENT-- ))
    case $verb in
@OPTIONS@
    esac
}
if [[ $funcstack[1] == _embodied-mem ]]; then
    _embodied-mem "$@"
else
    compdef _embodied-mem embodied-mem
fi
"""


def bash(verbs: Sequence[Words]) -> str:
    """Returns the script for bash."""
    flags, values = [], []
    for words in verbs:
        named = " ".join(option.flag for option in words.options if option.flag)
        placed = [option for option in words.options if not option.flag]
        first = placed[0] if placed else None
        offered = " ".join(first.choices) if first is not None else ""
        flags.append(f'        {words.verb}) flags="{named}" words="{offered}" ;;')
        for option in words.options:
            if option.flag:
                files = int(option.takes in ("file", ""))
                offered = " ".join(option.choices)
                values.append(f'        "{words.verb} {option.flag}") words="{offered}" files={files} ;;')
    text = BASH.replace("@VERBS@", " ".join(words.verb for words in verbs))
    return text.replace("@FLAGS@", "\n".join(flags)).replace("@VALUES@", "\n".join(values))


def zsh(verbs: Sequence[Words]) -> str:
    """Returns the script for zsh, as a file of $fpath or to be sourced."""
    rows = [f"        {_quoted(f'{words.verb}:{words.what}')}" for words in verbs]
    cases = []
    for words in verbs:
        specs = " ".join(_zsh_spec(option, i) for i, option in enumerate(words.options, 1))
        cases.append(f"        {words.verb}) _arguments -S '--help[show help]' {specs} ;;")
    return ZSH.replace("@VERBS@", "\n".join(rows)).replace("@OPTIONS@", "\n".join(cases))


def _zsh_spec(option: Option, place: int) -> str:
    what = option.what.translate(str.maketrans("[]:", "() "))
    action = {"file": "_files", "choice": f"({' '.join(option.choices)})"}.get(option.takes, " ")
    if not option.flag:
        return _quoted(f"{place}:{what or 'argument'}:{action}")
    return _quoted(f"{option.flag}[{what}]" + (f":value:{action}" if option.takes else ""))


def fish(verbs: Sequence[Words]) -> str:
    """Returns the script for fish."""
    lines = ["# completion of embodied-mem in fish"]
    for words in verbs:
        start = f"complete -c embodied-mem -f -n __fish_use_subcommand -a {words.verb}"
        lines.append(f"{start} -d {_quoted(words.what)}")
    for words in verbs:
        start = f"complete -c embodied-mem -n '__fish_seen_subcommand_from {words.verb}'"
        for option in words.options:
            offered = f" -a {_quoted(' '.join(option.choices))}" if option.choices else ""
            if not option.flag:
                lines += [f"{start} -f{offered}"] if offered else []
                continue
            name = f"-s {option.flag[1:]}" if option.flag[1] != "-" else f"-l {option.flag[2:]}"
            taken = {"": "", "file": " -r -F"}.get(option.takes, " -x")
            lines.append(f"{start} {name}{taken}{offered} -d {_quoted(option.what)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return shlex.quote(" ".join(text.split()))


SCRIPTS: dict[str, Callable[[Sequence[Words]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
"""Shell -> what writes its script."""
