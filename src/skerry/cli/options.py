"""The command line as tables: the options of a verb, and the one small parser that reads them.

Runs in: every verb (hot); pure.   Imports: errors.
Source:  Go's package flag and urfave/cli v1, as runc 1.1.5 shows them when it is tried.
Never:   prints, exits, or touches the world.

    --name value   --name=value   -name value   -n value   --flag   --flag=false   --

One dash is as good as two, and letters are never bundled: engines were written against Go's rules.
The value of an option is the next word whatever it looks like. Where the words after the first
belong to another program (exec, ps, and the verb itself for the global options) the first word
ends the options; elsewhere known options may follow words.
"""

from skerry.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

INTEGER_MAX = (1 << 63) - 1

BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


def boolean(text: str, /) -> bool:
    """Read a boolean as Go does. Errors: ValueError."""
    if text not in BOOLEANS:
        raise ValueError("not a boolean")
    return BOOLEANS[text]


def integer(text: str, /) -> int:
    """Read a decimal number of 64 bits with an optional minus. Errors: ValueError.

    int() alone would take blanks, underscores, a plus, and the digits of every script.
    """
    digits = text[1:] if text[:1] == "-" else text
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
        raise ValueError("not a number")
    number = int(text)
    if abs(number) > INTEGER_MAX:
        raise ValueError("out of range")
    return number


def count(text: str, /) -> int:
    """Read a decimal number that is not negative. Errors: ValueError."""
    number = integer(text)
    if number < 0:
        raise ValueError("negative")
    return number


# kind -> (reads the text, default, may be given again and collects)
# A switch and a word can tell "not given" from "given as false" and "given as nothing".
KINDS: "dict[str, tuple[Callable[[str], Any], Any, bool]]" = {
    "flag": (boolean, False, False),
    "switch": (boolean, None, False),
    "text": (str, "", False),
    "word": (str, None, False),
    "texts": (str, (), True),
    "count": (count, 0, False),
    "integers": (integer, (), True),
}

FLAGS = ("flag", "switch")


class Option:
    """One option of the command line.

    `kind` is a key of KINDS; `value` names the value in the help; `default` is shown there too.
    """

    __slots__ = ("name", "help", "letter", "kind", "default", "value")

    def __init__(
        self,
        name: str,
        help: str,
        *,
        letter: str = "",
        kind: str = "text",
        default: "Any" = None,
        value: str = "",
    ) -> None:
        self.name = name
        self.help = help
        self.letter = letter
        self.kind = kind
        self.default = KINDS[kind][1] if default is None else default
        self.value = value


class Verb:
    """What the parser and the help must know of a verb; each verb's module holds one as VERB.

    `words` describes the positional words, of which there are `least` to `most` (None: any number).
    With `words_end_options` what follows the first word belongs to another program.
    """

    __slots__ = (
        "summary",
        "words",
        "least",
        "most",
        "options",
        "words_end_options",
        "about",
        "example",
    )

    def __init__(
        self,
        summary: str,
        *,
        words: str = "<container-id>",
        least: int = 1,
        most: "int | None" = 1,
        options: "tuple[Option, ...]" = (),
        words_end_options: bool = False,
        about: str = "",
        example: str,
    ) -> None:
        self.summary = summary
        self.words = words
        self.least = least
        self.most = most
        self.options = options
        self.words_end_options = words_end_options
        self.about = about
        self.example = example

    def check_words(self, name: str, words: "Sequence[str]", /) -> None:
        """Refuse a wrong number of words, in runc's sentences (lifecycle P)."""
        given, rule = len(words), ""
        if self.least == self.most:
            rule = f"exactly {self.least}" if given != self.least else ""
        elif given < self.least:
            rule = f"a minimum of {self.least}"
        elif self.most is not None and given > self.most:
            rule = f"a maximum of {self.most}"
        if rule:
            raise UsageError(f'skerry: "{name}" requires {rule} argument(s)', usage=True)


HELP = Option("help", "show this help", letter="h", kind="flag")


def parse(
    words: "Sequence[str]", options: "tuple[Option, ...]", /, *, words_end_options: bool
) -> "tuple[dict[str, Any], list[str]]":
    """Split words into the values of options, by name and with defaults, and what is left.

    As soon as help is asked for nothing else matters: the rest is not read.
    """
    table = {
        name: option for option in (*options, HELP) for name in (option.name, option.letter) if name
    }
    values = {option.name: option.default for option in (*options, HELP)}
    left: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            left += words[position:]
            break
        name, equals, text = word.lstrip("-").partition("=")
        dashes = len(word) - len(word.lstrip("-"))
        # After a word, `-9` is a word as in runc's `kill ID -9`; two dashes never are.
        if dashes not in (1, 2) or not name or (left and dashes == 1 and name not in table):
            left.append(word)
            if words_end_options:
                left += words[position:]
                break
            continue
        option = table.get(name)
        if option is None:
            raise UsageError(
                f"flag provided but not defined: -{name}",
                hint=suggest(name, list(table)),
                usage=True,
            )
        if not equals:
            if option.kind in FLAGS:
                text = "true"
            elif position < len(words):
                text = words[position]
                position += 1
            else:
                raise UsageError(f"flag needs an argument: -{name}", usage=True)
        _set(values, option, name, text)
        if values["help"]:
            break
    return values, left


def _set(values: "dict[str, Any]", option: Option, name: str, text: str) -> None:
    read, _, collects = KINDS[option.kind]
    try:
        value = read(text)
    except ValueError as error:
        what = f'boolean value "{text}" for' if option.kind in FLAGS else f'value "{text}" for flag'
        raise UsageError(f"invalid {what} -{name}: {error}", usage=True) from None
    values[option.name] = (*values[option.name], value) if collects else value


def suggest(name: str, known: "list[str]", /, dashes: str = "--") -> str:
    """The hint for a misspelt option or verb, or nothing when none is near."""
    import difflib

    near = difflib.get_close_matches(
        name, [word for word in known if len(word) > 1], n=1, cutoff=0.6
    )
    return f"did you mean {dashes}{near[0]}?" if near else ""
