"""Numbers as people write them: as many digits as the error allows."""

import math


def with_error(value: float, std: float | None) -> str:
    """ "4.421 ± 0.025"; without an error, five significant digits."""
    if std is None:
        return plain(value)
    if float(value).is_integer() and std < 0.01:
        return f"{plain(value)} \N{PLUS-MINUS SIGN} < 0.01"  # a whole number that is certain
    if std <= 0.0:
        return f"{plain(value)} \N{PLUS-MINUS SIGN} 0"
    digits = max(0, 1 - math.floor(math.log10(std)))
    if digits > 9:
        return f"{plain(value)} \N{PLUS-MINUS SIGN} {std:.1g}"
    rounded = round(value, digits), round(std, digits)
    if digits == 0:
        scale = 10.0 ** max(0, math.floor(math.log10(std)) - 1)
        rounded = tuple(scale * round(x / scale) for x in (value, std))
    rounded = tuple(x + 0.0 for x in rounded)  # no -0.000
    return f"{rounded[0]:.{digits}f} \N{PLUS-MINUS SIGN} {rounded[1]:.{digits}f}"


def sides(pixel: tuple[float, float]) -> str:
    """Height and width of a pixel; one number where they are written alike."""
    return " x ".join(dict.fromkeys(f"{side:.5g}" for side in pixel))


def fixed(value: float, digits: int) -> str:
    """So many decimals, and no minus before zeros."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def plain(value: float) -> str:
    """Five significant digits, without an exponent where that stays short."""
    if value == 0.0 or 1e-4 <= abs(value) < 1e9:
        digits = 0 if value == 0.0 else max(0, 4 - math.floor(math.log10(abs(value))))
        text = f"{value:.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.4g}"
