"""Money, percentages, measures, fractions and signs in words. The rules stand in the order of use."""

from text.english import numbers
from text.english.rules import AMOUNT, NUMBER, SCALE, START, STOP, any_of, rule, words

_MONEY = {
    "$": ("dollar", "dollars", "cent", "cents"), "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"), "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"), "₩": ("won", "won", "jeon", "jeon"),
    "₽": ("ruble", "rubles", "kopeck", "kopecks"),
}  # fmt: skip
_COINS = {"¢": ("cent", "cents"), "c": ("cent", "cents"), "p": ("penny", "pence")}
_COUNTRIES = {"US": "US", "A": "Australian", "AU": "Australian", "C": "Canadian", "CA": "Canadian", "HK": "Hong Kong",
              "NZ": "New Zealand", "S": "Singapore", "R": "Brazilian"}  # fmt: skip
_ISO_MONEY = {"USD": "$", "GBP": "£", "EUR": "€", "JPY": "¥", "INR": "₹", "KRW": "₩", "RUB": "₽",
              "CAD": "C$", "AUD": "A$"}  # fmt: skip
_SCALES = {"k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million", "mm": "million",
           "b": "billion", "B": "billion", "bn": "billion", "Bn": "billion", "tn": "trillion",
           "T": "trillion"}  # fmt: skip
_SIGN = "[$£€¥₹₩₽]"
_SCALED = rf"(?:[ -]({SCALE})s?\b|([kKmMbBT])(?![\w/])| ?(mn|mm|[bB]n|tn)\b)?"

# Singular, plural; the plural adds an s where there is none.
_UNITS = {
    "mm": "millimeter", "cm": "centimeter", "dm": "decimeter", "m": "meter", "km": "kilometer", "nm": "nanometer",
    "µm": "micrometer", "mi": "mile", "yd": "yard", "yds": "yard", "ft": ("foot", "feet"), "in.": ("inch", "inches"),
    "mg": "milligram", "g": "gram", "gm": "gram", "kg": "kilogram", "kgs": "kilogram", "µg": "microgram",
    "lb": "pound", "lbs": "pound", "oz": "ounce", "cwt": "hundredweight", "l": "liter", "L": "liter",
    "ml": "milliliter", "mL": "milliliter", "cl": "centiliter", "dl": "deciliter", "dL": "deciliter", "gal": "gallon",
    "gals": "gallon", "qt": "quart", "qts": "quart", "tsp": "teaspoon", "tbsp": "tablespoon", "ha": "hectare",
    "cc": ("c c", "c c"), "ms": "millisecond", "µs": "microsecond", "ns": "nanosecond", "sec": "second",
    "secs": "second", "min": "minute", "mins": "minute", "h": "hour", "hr": "hour", "hrs": "hour", "yr": "year",
    "yrs": "year", "mo": "month", "mos": "month", "wk": "week", "wks": "week",
    "Hz": ("hertz", "hertz"), "kHz": ("kilohertz", "kilohertz"), "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"), "KB": "kilobyte", "kB": "kilobyte", "MB": "megabyte", "GB": "gigabyte",
    "TB": "terabyte", "PB": "petabyte", "kb": "kilobit", "Kb": "kilobit", "Mb": "megabit", "Gb": "gigabit",
    "mbps": ("megabit per second", "megabits per second"),
    "kbps": ("kilobit per second", "kilobits per second"),
    "Mbps": ("megabit per second", "megabits per second"),
    "Gbps": ("gigabit per second", "gigabits per second"), "px": "pixel", "dpi": ("dot per inch", "dots per inch"),
    "W": "watt", "kW": "kilowatt", "KW": "kilowatt", "MW": "megawatt", "GW": "gigawatt", "kWh": "kilowatt hour",
    "MWh": "megawatt hour", "Wh": "watt hour", "hp": ("horsepower", "horsepower"), "V": "volt", "kV": "kilovolt",
    "mV": "millivolt", "mA": "milliamp", "mAh": "milliamp hour", "dB": "decibel", "cal": "calorie",
    "kcal": "kilocalorie", "kJ": "kilojoule", "kN": "kilonewton",
    "Pa": "pascal", "hPa": "hectopascal", "kPa": "kilopascal", "MPa": "megapascal",
    "psi": ("pound per square inch", "pounds per square inch"), "mph": ("mile per hour", "miles per hour"),
    "MPH": ("mile per hour", "miles per hour"), "mpg": ("mile per gallon", "miles per gallon"),
    "kph": ("kilometer per hour", "kilometers per hour"), "kmh": ("kilometer per hour", "kilometers per hour"),
    "rpm": ("revolution per minute", "revolutions per minute"), "fps": ("frame per second", "frames per second"),
    "bpm": ("beat per minute", "beats per minute"), "KM": "kilometer", "KG": "kilogram",
}  # fmt: skip
_PER = {"s": "second", "d": "day", "hour": "hour", "day": "day", "week": "week", "month": "month", "year": "year",
        "person": "person", "second": "second", "minute": "minute", "mile": "mile", "in": "inch"}  # fmt: skip
_PREFIXES = {"sq": "square", "square": "square", "cu": "cubic", "cubic": "cubic"}
_POWERS = {"²": "square", "2": "square", "³": "cubic", "3": "cubic"}
_UNIT = "|".join(sorted((each.replace(".", r"\.") for each in _UNITS), key=len, reverse=True))
_DIVISOR = "|".join(sorted({*_UNITS, *_PER} - {"in."}, key=len, reverse=True))
_HALVES = {"one half": "a half", "one quarter": "a quarter"}
_KIND = r"(?:(sq|square|cu|cubic)\b\.? )?"
_POWER = r"(?:(²|³|[23]\b)|(?<=\.)|(?!\w))"
_MEASURE = (
    rf"(?<![\d.,/])((?:\d{{1,4}} )?\d{{1,4}}/\d{{1,4}}|{AMOUNT}(?: {SCALE}(?= ))?)(?: ?(-)| ?){_KIND}({_UNIT}){_POWER}"
    rf"(?:/{_KIND}({_DIVISOR}){_POWER})?(?!'){STOP}"
)
_DEGREES = {"C": "Celsius", "F": "Fahrenheit", "N": "north", "S": "south", "E": "east", "W": "west"}


def _names(unit):
    names = _UNITS.get(unit) or _PER[unit]
    return names if isinstance(names, tuple) else (names, f"{names}s")


def _is_one(number):
    """Whether a thing counted by it is singular: one, and a fraction of one."""
    return number == "1" or ("/" in number and " " not in number)


def _money(match):
    country, sign, whole, cents, *scales = match.groups()
    unit, units, coin, coins = _MONEY[sign]
    country = _COUNTRIES.get(country or "", "")
    scale = next(filter(None, scales[:3]), None)
    if cents and not scale and not cents[2:].strip("0"):
        cents = cents[:2].ljust(2, "0")  # $20.5 and $20.500
    if scale or (cents and len(cents) != 2):
        return words(numbers.decimal(whole, cents), _SCALES.get(scale, scale), country, units)
    said = [words(numbers.cardinal(whole), country, unit if whole == "1" or match["thing"] is not None else units)]
    if cents and int(cents):
        said.append(f"{numbers.cardinal(str(int(cents)))} {coin if int(cents) == 1 else coins}")
    return ", ".join(said[1:] if len(said) > 1 and not int(whole.replace(",", "")) else said)


def _money_range(match):
    """$5-10 million names the unit once; $2-$3 and $2.50-3.50 twice, when the rule for money has read both."""
    sign, low, again, high, *scales = match.groups()
    scale = next(filter(None, scales), "")
    if not scale and (again or "." in low + high):
        return f"{sign}{low} to {sign}{high}"
    low, high = (numbers.decimal(*f"{amount}.".split(".")[:2]) for amount in (low, high))
    return words(low, "to", high, _SCALES.get(scale, scale), _MONEY[sign][1])


def _old_money(match):
    """Pounds, shillings and pence as they were until 1971."""
    units = (("pound", "pounds"), ("shilling", "shillings"), ("penny", "pence"))
    said = [f"{numbers.cardinal(each)} {names[each != '1']}" for each, names in zip(match.groups(), units) if each]
    return ", ".join(said)


def _coins(match):
    return f"{match[1]} {_COINS[match[2].strip()][match[1] != '1']}"


def _measure(match):
    number, hyphen, prefix, unit, power, below, divisor, below_power = match.groups()
    kind = _PREFIXES.get(prefix or "") or _POWERS.get(power or "")
    below = _PREFIXES.get(below or "") or _POWERS.get(below_power or "")
    per = words("per", below, _names(divisor)[0]) if divisor else ""
    return words(number, kind, _names(unit)[0 if hyphen else not _is_one(number)], per)


def _thousands(digits):
    """1800: 1,800, which is no year."""
    return f"{int(digits):,}" if digits[0] != "0" else digits


def _degrees(match):
    return words(match[1], "degree" if _is_one(match[1]) else "degrees", _DEGREES.get(match[2] or ""))


def _feet_and_inches(match):
    return f"{match[1]} {'foot' if match[1] == '1' else 'feet'} {match[2]} {'inch' if match[2] == '1' else 'inches'}"


def _mixed(match):
    """2 1/2: two and a half."""
    part = numbers.fraction(match[2], match[3])
    return f"{numbers.cardinal(match[1])} and {_HALVES.get(part, part)}"


def _fraction(match):
    above, below = match.groups()
    if match[0] in ("9/11", "24/7") or above == below:
        return f"{numbers.cardinal(above)} {numbers.cardinal(below)}"
    return numbers.fraction(above, below)


MONEY = (
    rule("range of money", "$5-10 million", "five to ten million dollars",
         rf"({_SIGN}) ?({AMOUNT})-({_SIGN})?({AMOUNT}){_SCALED}", _money_range),
    rule("range of amounts", "5%-6%", "five percent to six percent",
         rf"(?<=%)-(?=\d)|(?<=\d)-(?={_SIGN}\d)", " to "),
    rule("money without a whole", "$.50", "fifty cents", rf"(?<={_SIGN})\.(?=\d)", "0."),
    rule("sign before minus", "$-5", "minus five dollars", rf"({_SIGN})-(?=\.?\d)", r"-\1"),
    rule("cents after a comma", "€5,50", "five euros, fifty cents", r"(€\d{1,9}),(?=\d\d\b(?![,.]))", r"\1."),
    rule("minus", "-5 or -$5", "minus five or minus five dollars", rf"(?<![\w.)-])-(?=\.?\d|{_SIGN}\d)", "minus "),
    rule("currency before", "USD 5", "five dollars",
         rf"\b({any_of(_ISO_MONEY)}) ?(?=\d)", lambda m: _ISO_MONEY[m[1]]),
    rule("currency after", "5 EUR", "five euros", rf"{START}({AMOUNT}) ?({any_of(_ISO_MONEY)})\b",
         lambda m: _ISO_MONEY[m[2]] + m[1]),
    rule("pounds, shillings, pence", "£1 10s. 6d.", "one pound, ten shillings, six pence.",
         rf"£({NUMBER}),? (\d\d?)s\b{STOP}(?:,? (\d\d?)d\b{STOP})?", _old_money),
    rule("shillings and pence", "10s. 6d.", "ten shillings, six pence.",
         rf"(?<![\w.,])()([1-9]|1\d)s\.(?:,? (\d\d?)d\b{STOP}|(?= [a-z]))", _old_money),
    rule("money", "$3.50", "three dollars, fifty cents",
         rf"(?:(?<![A-Za-z])(US|AU?|CA?|HK|NZ|S|R))?({_SIGN}) ?({NUMBER})(?:\.(\d+))?{_SCALED}"
         r"(?P<thing>(?= (?:bill|note|coin)s?\b))?", _money),
    rule("coins", "99¢", "ninety-nine cents", rf"{START}(\d{{1,2}})( ?¢|[cp]\b(?!\.\w))", _coins),
    rule("money for each", "$5/day", "five dollars per day",
         rf"(?<=[a-z])/(?={any_of(each for each in _PER if len(each) > 2)}\b)", " per "),
    rule("percent", "50%", "fifty percent", r" ?%", " percent"),
)  # fmt: skip

MEASURES = (
    rule("feet and inches", "6'2\"", "six feet two inches",
         r"(?<![\w.,'])(\d{1,2})' ?(\d{1,2})(?:\"|'')", _feet_and_inches),
    rule("degrees", "45°F", "forty-five degrees Fahrenheit", rf"{START}({AMOUNT}) ?[°º](?: ?([CFNSEW])\b)?", _degrees),
    rule("caliber", ".38-caliber", "thirty-eight-caliber",
         r"(?<!\w)\.(\d\d)(?=[ -](?:cal\b|[Cc]aliber|[Cc]alibre|[Ss]pecial|[Mm]agnum|[Rr]evolver|[Pp]istol|[Rr]ifle))",
         r"\1"),
    rule("range of measures", "1500-1800 kg", "one thousand five hundred to one thousand eight hundred kilograms",
         rf"{START}(\d{{4}})-(\d{{1,4}})(?= ?(?:{_UNIT})\b)",
         lambda m: f"{numbers.cardinal(m[1])} to {_thousands(m[2])}"),
    rule("measure", "10 km/h, 6 sq. ft.", "ten kilometers per hour, six square feet.", _MEASURE, _measure),
    rule("mixed number", "2 1/2", "two and a half", r"(?<![\d.,/])(\d{1,6})[ -](\d{1,2})/(\d{1,3})(?![\d/])", _mixed),
    rule("fraction", "3/4", "three quarters", r"(?<![\w.,/])(\d{1,3})/(\d{1,4})(?![\w/]|[.,]\d)", _fraction),
    rule("times", "3x4", "three by four", r"(?<=\d)x(?=\d)", " by "),
    rule("power", "10^6", "ten to the power of six", r"(?<=\w)\^(?=-?\w)", " to the power of "),
    rule("difference", "3-1=2", "three minus one equals two", r"(?<=\d) ?- ?(?=\d+ ?=)", " minus "),
    rule("per unit", "12/kg", "twelve per kilogram", rf"(?<=\d)/({_DIVISOR})\b", lambda m: f" per {_names(m[1])[0]}"),
    rule("sum", "2+2=4", "two plus two equals four", r"(?<=[\d\w)]) ?([+=<>]) ?(?=[-\d(]|[a-z]\b)",
         lambda m: {"+": " plus ", "=": " equals ", "<": " less than ", ">": " greater than "}[m[1]]),
    rule("plus", "+5", "plus five", r"(?<!\w)\+(?=\.?\d)", "plus "),
    rule("about", "~5", "about five", r"(?<!\w)~ ?(?=\d)", "about "),
    rule("product", "3 * 4", "three times four", r"(?<=\d) ?\* ?(?=\d)", " times "),
)  # fmt: skip
