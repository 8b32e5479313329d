"""How a verb's `--help` shows its example."""


def example(line: str) -> str:
    """The end of a verb's help; the mark keeps the line from being folded."""
    return f"\b\nExample:\n  {line}"
