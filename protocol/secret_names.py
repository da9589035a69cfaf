"""What variables that hold a secret are called: refused where all can read them, hidden in logs.

Pure. A net, not a wall: a secret by another name is not seen here.
"""

import re
from typing import Final

#: Anywhere in a name, but for tokenizers, secretaries and where a file with the secret is.
_NAME: Final = re.compile(
    r"(?!.*_(?:FILE|PATH|DIR)\Z).*"
    r"(?:TOKEN(?!I[SZ])|SECRET(?!AR)|PASSW|PASSPHRASE|CREDENTIAL"
    r"|(?:API|PRIVATE|ACCESS)[_.-]?KEY)",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)
#: Shorter values are switches and placeholders more often than secrets.
SECRET_CHARACTERS_MIN: Final = 8


def names_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret, as people call them."""
    return _NAME.match(name) is not None


def holds_secret(name: str, value: str) -> bool:
    """Whether this variable, by its name, holds a value that nobody should read."""
    return len(value) >= SECRET_CHARACTERS_MIN and names_secret(name)
