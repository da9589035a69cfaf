"""What variables that hold a secret are called: refused where all can read them, hidden in logs.

Pure. A net, not a wall: a secret by another name is not seen here.
"""

import re
from typing import Final

#: Anywhere in a name, but for tokenizers, secretaries and where a file with the secret is.
_NAME: Final = re.compile(
    r"(?!.*_(?:FILE|PATH|DIR)\Z).*"
    r"(?:TOKEN(?!I[SZ])|SECRET(?!AR)|PASSW|PASSPHRASE|CREDENTIAL"
    r"|(?:API|PRIVATE|ACCESS)[_.-]?KEY"
    # At the end, as a word: a bypass is none, nor is what a shell calls its folder.
    r"|(?<![A-Z0-9])PASS[_.-]?[0-9]*\Z|[_.-]PWD[_.-]?[0-9]*\Z)",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)
#: Scripts keep the folder they came from in such: `OLD_PWD=/srv/app`.
_FOLDER_NAME: Final = re.compile(r".*PWD[_.-]?[0-9]*\Z", re.ASCII | re.IGNORECASE | re.DOTALL)
#: Shorter values are switches and placeholders more often than secrets.
SECRET_CHARACTERS_MIN: Final = 8


def names_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret, as people call them."""
    return _NAME.match(name) is not None


def holds_secret(name: str, value: str) -> bool:
    """Whether this variable, by its name, holds a value that nobody should read."""
    if len(value) < SECRET_CHARACTERS_MIN or not names_secret(name):
        return False
    return not (value.startswith("/") and _FOLDER_NAME.match(name))
