"""Text that other people's programs open: a spreadsheet must not take data for a formula."""

_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def guarded(text: str) -> str:
    """`text` for a CSV cell: led by `'` if a spreadsheet would run it as a formula."""
    return f"'{text}" if text.startswith(_STARTS_FORMULA) else text
