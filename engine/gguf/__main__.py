"""`python -m engine.gguf FOLDER OUT [f32|f16|q8_0]`: write a model's folder as one GGUF file; prints a line of JSON.

`python -m engine.gguf FOLDER --check` checks config and tokenizer only: the weights need not be there.
"""

import json
import sys
from pathlib import Path

from engine.gguf.written import TYPES, check_writable, write_gguf
from engine.imports import ImportFault


def main(arguments: list[str]) -> int:
    """Return the exit code: 65 for a model that cannot be written as GGUF."""
    if len(arguments) not in {2, 3} or (len(arguments) == 3 and arguments[2] not in TYPES):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    folder, out = map(Path, arguments[:2])
    try:
        if arguments[1:] == ["--check"]:
            check_writable(folder)
            result = {}
        else:
            result = write_gguf(folder, out, arguments[2] if len(arguments) == 3 else "f16")
    except (ImportFault, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 65
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
