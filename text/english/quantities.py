"""Money, percentages, measures, fractions and signs in words. The rules stand in the order of use."""

import re

from text.english import numbers
from text.english.rules import AMOUNT, NOUN, NUMBER, OPENERS, SCALE, START, STOP, any_of, preceded_by, rule, words

_CENTS = ("cent", "cents")
_MONEY = {  # by sign, or by code where there is none: singular, plural, and those of the coin
    "$": ("dollar", "dollars", *_CENTS), "£": ("pound", "pounds", "penny", "pence"), "€": ("euro", "euros", *_CENTS),
    "¥": ("yen", "yen", "sen", "sen"), "₹": ("rupee", "rupees", "paisa", "paise"), "₩": ("won", "won", "jeon", "jeon"),
    "₽": ("ruble", "rubles", "kopeck", "kopecks"), "₪": ("shekel", "shekels", "agora", "agorot"),
    "₺": ("lira", "lira", "kurus", "kurus"), "₫": ("dong", "dong", "hao", "hao"),
    "฿": ("baht", "baht", "satang", "satang"), "₱": ("peso", "pesos", "centavo", "centavos"),
    "₦": ("naira", "naira", "kobo", "kobo"), "₴": ("hryvnia", "hryvnias", "kopiyka", "kopiykas"),
    "₿": ("bitcoin", "bitcoins", "satoshi", "satoshis"),
    "BRL": ("real", "reais", "centavo", "centavos"), "CHF": ("Swiss franc", "Swiss francs", "centime", "centimes"),
    "CNY": ("yuan", "yuan", "fen", "fen"), "CZK": ("Czech koruna", "Czech korunas", "haler", "halers"),
    "DKK": ("Danish krone", "Danish kroner", "ore", "ore"), "HUF": ("forint", "forints", "filler", "filler"),
    "MXN": ("Mexican peso", "Mexican pesos", "centavo", "centavos"),
    "NOK": ("Norwegian krone", "Norwegian kroner", "ore", "ore"), "PLN": ("zloty", "zlotys", "grosz", "groszy"),
    "SEK": ("Swedish krona", "Swedish kronor", "ore", "ore"), "ZAR": ("rand", "rand", *_CENTS),
    "AED": ("dirham", "dirhams", "fils", "fils"), "SAR": ("riyal", "riyals", "halala", "halalas"),
    "EGP": ("Egyptian pound", "Egyptian pounds", "piastre", "piastres"),
    "ARS": ("Argentine peso", "Argentine pesos", "centavo", "centavos"),
}  # fmt: skip
CURRENCIES = {sign: names[1] for sign, names in _MONEY.items() if len(sign) == 1}  # plurals
_COINS = {"¢": _CENTS, "c": _CENTS, "p": ("penny", "pence")}
_COUNTRIES = {"US": "US", "A": "Australian", "AU": "Australian", "C": "Canadian", "CA": "Canadian", "HK": "Hong Kong",
              "NZ": "New Zealand", "S": "Singapore", "NT": "Taiwan"}  # fmt: skip
_OTHERWISE = {  # what else these currencies are written as
    "USD": "$", "GBP": "£", "EUR": "€", "JPY": "¥", "INR": "₹", "Rs.": "₹", "Rs": "₹", "KRW": "₩", "RUB": "₽",
    "ILS": "₪", "TRY": "₺", "VND": "₫", "THB": "฿", "PHP": "₱", "NGN": "₦", "UAH": "₴", "BTC": "₿", "CAD": "C$",
    "AUD": "A$", "NZD": "NZ$", "HKD": "HK$", "SGD": "S$", "R$": "BRL ", "RMB": "CNY ", "MX$": "MXN ", "Fr.": "CHF ",
    **{code: f"{code} " for code in _MONEY if len(code) == 3},
}  # fmt: skip
_SCALES = {"k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million", "mm": "million",
           "b": "billion", "B": "billion", "bn": "billion", "Bn": "billion", "tn": "trillion",
           "MM": "million", "T": "trillion"}  # fmt: skip
_SIGN = f"[{''.join(CURRENCIES)}]"
_CODE = any_of(code for code in _MONEY if len(code) == 3)
_SCALED = rf"(?:[ -]({SCALE})s?\b|([kKmMbBT])(?!\w)| ?(mn|mm|MM|[bB]n|tn)\b)?"

_PREFIXES = {"p": "pico", "n": "nano", "µ": "micro", "m": "milli", "c": "centi", "d": "deci", "h": "hecto", "k": "kilo",
             "K": "kilo", "M": "mega", "G": "giga", "T": "tera", "P": "peta"}  # fmt: skip
_METRIC = {  # each with the prefixes that it is read with; most are read without any, too
    "m": ("meter", "nµmcdk"), "g": ("gram", "pnµmk"), "l": ("liter", "mcd"), "L": ("liter", "µmd"),
    "s": ("second", "nµm"),
    "Hz": ("hertz", "kMG"), "B": ("byte", "kKMGTP"), "b": ("bit", "kKMG"), "W": ("watt", "mkKMG"), "V": ("volt", "mk"),
    "Wh": ("watt hour", "kMGT"), "A": ("amp", "m"), "Ah": ("amp hour", "m"), "J": ("joule", "k"), "N": ("newton", "k"),
    "cal": ("calorie", "k"), "Ω": ("ohm", "kM"), "Pa": ("pascal", "hkMG"), "F": ("farad", "pnµ"),
    "mol": ("mole", "nµm"), "Sv": ("sievert", "mµ"),
}  # fmt: skip
_UNITS = {
    **{prefix + unit: _PREFIXES[prefix] + name for unit, (name, prefixes) in _METRIC.items() for prefix in prefixes},
    **{unit: name for unit, (name, _) in _METRIC.items() if unit not in ("s", "B", "b", "Ah", "F")},
    "KM": "kilometer", "mi": "mile", "yd": "yard", "ft": "foot", "in.": "inch", "ha": "hectare", "px": "pixel",
    "gm": "gram", "mcg": "microgram", "KG": "kilogram", "Kg": "kilogram", "kn": "knot", "nmi": "nautical mile",
    "sqm": "square meter", "sqft": "square foot", "lb": "pound", "oz": "ounce", "cwt": "hundredweight", "gal": "gallon",
    "qt": "quart", "pt": "pint", "fl oz": "fluid ounce", "fl. oz.": "fluid ounce", "cc": "c c", "tsp": "teaspoon",
    "Tsp": "teaspoon", "tbsp": "tablespoon", "Tbsp": "tablespoon", "doz": "dozen", "pkg": "package", "pts": "point",
    "sec": "second", "min": "minute", "h": "hour", "hr": "hour", "wk": "week", "mo": "month", "yr": "year",
    "kbit/s": "kilobit per second", "Mbit/s": "megabit per second", "Gbit/s": "gigabit per second",
    "kbps": "kilobit per second", "mbps": "megabit per second", "Mbps": "megabit per second",
    "Gbps": "gigabit per second", "dpi": "dot per inch", "fps": "frame per second", "bpm": "beat per minute",
    "rpm": "revolution per minute", "mph": "mile per hour", "MPH": "mile per hour", "mpg": "mile per gallon",
    "kph": "kilometer per hour", "kmh": "kilometer per hour", "ppm": "part per million", "ppb": "part per billion",
    "bps": "basis point", "bp": "basis point", "psi": "pound per square inch", "PSI": "P S I", "atm": "atmosphere",
    "mmHg": "millimeter of mercury", "mm Hg": "millimeter of mercury", "bhp": "brake horsepower",
    "hp": "horsepower", "HP": "horsepower", "Nm": "newton meter", "VDC": "volt D C",
    "eV": "electron volt", "dB": "decibel", "lm": "lumen", "mM": "millimolar", "angstrom": "angstrom",
}  # fmt: skip
_WITH_S = ("yd", "km", "cm", "ml", "kg", "lb", "gal", "qt", "tsp", "tbsp", "pkg", "sec", "min", "hr", "wk", "mo", "yr")
_UNITS |= {f"{unit}s": _UNITS[unit] for unit in _WITH_S}
_PLURALS = {"foot": "feet", "square foot": "square feet", "inch": "inches"}
_ALIKE = ("hertz", "horsepower", "dozen", "molar", "c c", "P S I")  # in the plural, too
_PER = {"s": "second", "d": "day", "hour": "hour", "day": "day", "week": "week", "month": "month", "year": "year",
        "person": "person", "second": "second", "minute": "minute", "mile": "mile", "in": "inch", "head": "head",
        "acre": "acre", "gallon": "gallon", "pound": "pound", "night": "night", "user": "user",
        "share": "share", "barrel": "barrel", "ton": "ton", "tonne": "tonne", "ounce": "ounce",
        "game": "game", "quarter": "quarter"}  # fmt: skip
_KINDS = {  # by what stands before a unit, or after it
    "sq": "square", "square": "square", "²": "square", "2": "square", "^2": "square",
    "cu": "cubic", "cubic": "cubic", "³": "cubic", "3": "cubic", "^3": "cubic",
}  # fmt: skip

_CURRENCY = any_of(_OTHERWISE)
_UNIT = any_of(_UNITS)
_DIVISOR = any_of({*_UNITS, *_PER} - {"in."})
_ALONE = any_of({unit for unit in _UNITS if len(unit) > 1 or unit in "mg"} - {"in."})
_LONGER = any_of(each for each in (*_UNITS, *_PER) if len(each) > 1)
_DETERMINER = re.compile(r"\b(?:an?|the|this|that|each|every|another|his|her|its|their|our|my|your) -?$", re.IGNORECASE)
_NOUN = re.compile(NOUN)
_PLACE = re.compile(  # what comes after is a name, 10A, and no measure
    r"(?i)\b(?:apartment|apt|room|rm|suite|unit|section|seat|row|gate|flight|level|grade|exhibit|figure|fig|table|part|"
    r"floor|building|class|flat|no|number|line|platform|track|bus|route|item|box|page|chapter|block|article|type|"
    r"equation|appendix|exit)\.? $"
)
_OUT_OF = re.compile(
    r"(?!1/)(?<!and )\d+/100?(?!\d| (?:of|and|or|miles?|inch|inches|seconds?|dollars|cent|per ?cent|equals)\b|"
    r"-| - ?\d| ?[+=*×])|\d/5 stars?\b"
)
_TWO_NUMBERS = re.compile(r"9/11|24/7|(?!1/)\d+/\d+ time\b")
_FEWEST_RUNS = 20  # before wickets of cricket, in the place of a score
_SCORE = rf"\b(?:(?!{OPENERS})[A-Z][A-Za-z]+|at|were|reached|made|scored|posted|declared) $"
_HALVES = {"one half": "a half", "one quarter": "a quarter"}
_KIND = r"(?:(sq|square|cu|cubic)\b\.? )?"
_POWER = r"(?:(²|³|\^?[23]\b)|(?<=\.)|(?!\w))"
_MEASURE = (
    rf"(?<![^\Wx]|[.,])(?<!\d/)((?:\d{{1,4}} )?\d{{1,4}}/\d{{1,4}}|{AMOUNT}(?: {SCALE}(?= ))?)(?: ?(-)| ?){_KIND}"
    rf"({_UNIT}){_POWER}(?:/{_KIND}({_DIVISOR}){_POWER})?(?!'){STOP}"
)
_LENGTH = r" ?(?:(?:centi|milli|kilo)?met|inch|feet|foot|pixel|yard|mile)"  # the beginning of its name
_AFTER_LENGTH = "|".join(f"(?<={name})" for name in ("foot", "feet", "inch", "inches", "meter", "meters"))
_DEGREES = {"C": "Celsius", "F": "Fahrenheit", "N": "north", "S": "south", "E": "east", "W": "west"}


def _names(unit):
    """Singular and plural, whose s stands before "per", "of" and "D C"."""
    name = _UNITS.get(unit) or _PER[unit]
    if name.endswith(_ALIKE):
        return name, name
    return name, _PLURALS.get(name) or re.sub("$| (?=per|of|D C)", r"s\g<0>", name, count=1)


def _counted(number, singular, plural):
    return f"{number} {singular if number == '1' else plural}"


def _is_one(number):
    """Whether a thing counted by it is singular: one, and a fraction of one."""
    above, _, below = number.partition("/")
    return number == "1" or (below != "" and " " not in above and int(above) < int(below))


def _money(match):
    country, sign, code, whole, cents, *scales = match.groups()
    unit, units, coin, coins = _MONEY[sign or code]
    country = _COUNTRIES.get(country)
    scale = next(filter(None, scales[:3]), None)
    described = match["thing"] is not None or (match["noun"] is not None and preceded_by(match, _DETERMINER))
    if cents and not scale and not cents[2:].strip("0"):
        cents = cents[:2].ljust(2, "0")  # $20.5 and $20.500
    if scale or (cents and len(cents) != 2):
        return words(numbers.decimal(whole, cents), _SCALES.get(scale, scale), country, unit if described else units)
    said = [words(numbers.cardinal(whole), country, unit if whole == "1" or described else units)]
    if cents and int(cents):
        said.append(f"{numbers.cardinal(cents)} {coin if int(cents) == 1 or described else coins}")
    return ", ".join(said[1:] if len(said) > 1 and not whole.strip("0,") else said)


def _scaled(match):
    """250K: two hundred fifty thousand. A 10K race, flat 3B, 401K, 3M and 13700K are no numbers of things."""
    whole, part, scale, counted = match.groups()
    few = not part and len(whole) <= 2 and int(whole) <= 10 and not counted
    if (
        preceded_by(match, _PLACE)
        or ((whole, scale.upper()) in (("401", "K"), ("3", "M")) and not counted)
        or len(whole.partition(",")[0]) > 4
        or (few and scale != "M")
        or (scale == "B" and not part and not counted)
    ):
        return match[0]
    return words(numbers.decimal(whole, part), _SCALES[scale])


def _money_range(match):
    """$5-10 million names the unit once; $2-$3 and $2.50-3.50 twice, when the rule for money has read both."""
    sign, low, again, high, *scales = match.groups()
    scale = next(filter(None, scales), "")
    if not scale and (again or "." in low + high):
        return f"{sign}{low} to {sign}{high}"
    low, high = (numbers.decimal(*amount.partition(".")[::2]) for amount in (low, high))
    return words(low, "to", high, _SCALES.get(scale, scale), _MONEY[sign][1])


def _old_money(match):
    """Pounds, shillings and pence as they were until 1971."""
    units = (("pound", "pounds"), ("shilling", "shillings"), ("penny", "pence"))
    said = [f"{numbers.cardinal(each)} {names[each != '1']}" for each, names in zip(match.groups(), units) if each]
    return ", ".join(said)


def _coins(match):
    if match[2] in "cp" and preceded_by(match, _PLACE):
        return match[0]
    return _counted(match[1], *_COINS[match[2].strip()])


def _measure(match):
    number, hyphen, prefix, unit, power, below, divisor, below_power = match.groups()
    after = match.string[match.end() : match.end() + 20]
    if (
        len(unit) == 1
        and preceded_by(match, _PLACE)
        or (unit in "NSW" and preceded_by(match, "[A-Z]-$"))
        or (unit == "A" and re.match("-| [A-Z]| [a-z]+s\\b", after))
    ):
        return match[0]
    if unit == "bps" and re.match(r"\d,?\d{3}|\d{5}", number):
        return f"{number} bits per second"
    if hyphen and unit == "pt":
        unit = "pts"  # of a font or a game
    per = _per_unit(below or below_power, divisor) if divisor else ""
    described = hyphen or (_names(unit)[1] != f"{unit}s" and _NOUN.match(after) and preceded_by(match, _DETERMINER))
    return words(number, _KINDS.get(prefix or power), _names(unit)[0 if described else not _is_one(number)], per)


def _per(match):
    """km/h where no number stands before."""
    prefix, unit, power, below, divisor, below_power = match.groups()
    return words(_KINDS.get(prefix or power), _names(unit)[1], _per_unit(below or below_power, divisor))


def _per_unit(kind, unit):
    """Per square meter; per second squared."""
    kind, name = _KINDS.get(kind), _names(unit)[0]
    return words("per", name, "squared") if (name, kind) == ("second", "square") else words("per", kind, name)


def _thousands(digits):
    """1800: 1,800, which is no year."""
    return f"{int(digits):,}" if digits[0] != "0" else digits


def _arc(match):
    *parts, direction = match.groups()
    names = ("degree", "minute", "second")
    said = [_counted(part, name, f"{name}s") for part, name in zip(parts, names) if part]
    return words(*said, _DEGREES.get(direction))


def _stones(match):
    """11st: no ordinal number ends so, but 21st is one."""
    pounds = re.match(r" \d", match.string[match.end() : match.end() + 2])
    return f"{match[1]} stone" if pounds or numbers.nth(match[1]) != f"{match[1]}st" else match[0]


def _length(match):
    """A number with a mark that closes no quotation: 12' is twelve feet, 15" fifteen inches."""
    number, mark = match["number"], match["mark"]
    if number is None:
        return match[0]
    names = ("foot", "feet") if mark == "'" else ("inch", "inches")
    after = match.string[match.end() : match.end() + 20]
    described = re.match(" (?!of|or|that)", after) and preceded_by(match, _DETERMINER)
    one = described or _is_one(number) or re.match(rf" [A-Z]|{NOUN}", after)
    return f"{number} {names[not one]}"


def _mixed(match):
    """2 1/2: two and a half."""
    part = numbers.fraction(match[2], match[3])
    return f"{numbers.cardinal(match[1])} and {_HALVES.get(part, part)}"


def _is_run(match):
    """Whether two numbers are neighbours, and no part of an inch: Windows 10/11, the week 23/24."""
    above, below = int(match[1]), int(match[2])
    if below in (16, 32, 64) or match.string.startswith(" of ", match.end()):
        return False
    return 8 < above == below - 1 and preceded_by(match, "[a-z] $")


def _fraction(match):
    above, below = match.groups()
    if above is None or _OUT_OF.match(match.string, match.start()):
        return words(above and numbers.cardinal(above), "out of", below and numbers.cardinal(below))
    shares = 50 <= int(above) == 100 - int(below)  # an 80/20 split
    if _TWO_NUMBERS.match(match.string, match.start()) or shares or above == below or _is_run(match):
        return f"{numbers.cardinal(above)} {numbers.cardinal(below)}"
    if int(above) > int(below) > 20:  # blood pressure
        return f"{numbers.pairs(above)} over {numbers.cardinal(below)}"
    if int(above) >= _FEWEST_RUNS and len(below) == 1 and preceded_by(match, _SCORE) and not preceded_by(match, _PLACE):
        return f"{numbers.cardinal(above)} for {numbers.cardinal(below)}"
    return numbers.fraction(above, below)


MONEY = (
    rule("thousands as elsewhere", "1.234,56 or 1'250.50", "one thousand two hundred thirty-four point five six or "
         "one thousand two hundred fifty point five zero",
         r"(?<![\w.,'])\d{1,3}(?:(?:\.\d{3})+,\d{1,2}|(?:'\d{3})+\.\d{1,2})(?![\w'\"]|[.,]\d)",
         lambda m: re.sub(r"[.'](?=\d{3})", "", m[0]).replace(",", ".")),
    rule("range of scaled money", "£50k-60k", "fifty to sixty thousand pounds",
         rf"({_SIGN})( ?{AMOUNT})([kKmMbB]n?)-(?={AMOUNT}([kKmMbB]n?)\b)",
         lambda m: f"{m[1]}{m[2]}-" if m[3].lower() == m[4].lower() else f"{m[1]}{m[2]}{m[3]} to {m[1]}"),
    rule("range of money", "$5-10 million", "five to ten million dollars",
         rf"({_SIGN}) ?({AMOUNT})-({_SIGN})?({AMOUNT}){_SCALED}", _money_range),
    rule("range of amounts", "5%-6%", "five percent to six percent",
         rf"(?<=%)-(?=\d)|(?<=[\dkKmMbBn])-(?={_SIGN}\d)", " to "),
    rule("money without a whole", "$.50", "fifty cents", rf"(?<={_SIGN})\.(?=\d)", "0."),
    rule("sign before minus", "$-5", "minus five dollars", rf"({_SIGN})-(?=\.?\d)", r"-\1"),
    rule("sign and code of a currency", "$5 CAD", "five Canadian dollars",
         rf"{_SIGN} ?({AMOUNT}(?: {SCALE}\b|(?:[kKMB]|[mb]n)\b)?) ?({_CURRENCY})\b", lambda m: _OTHERWISE[m[2]] + m[1]),
    rule("currency before", "USD 5", "five dollars",
         rf"(?<![A-Za-z])({_CURRENCY}) ?(?=\d)", lambda m: _OTHERWISE[m[1]]),
    rule("euros and cents", "€1.200 or 5,50 €", "one thousand two hundred euros or five euros, fifty cents",
         r"(?<=€)(?: ?\d{1,3}(?:\.\d{3}| 000){1,3}(?:,\d\d)?| ?\d{1,9},\d\d)\b(?![,.]\d)|"
         rf"(?<![\w.,])(?<!\d )\d{{1,3}}(?: \d{{3}}){{1,3}}(?:,\d\d)?(?= ?(?:€|(?:{_CURRENCY})\b))|"
         r"(?<![\w.,])\d{1,3}(?:(?:\.\d{3}){1,3}(?:,\d\d)?|\d{0,6},\d\d)(?= ?€)|"
         rf"(?<![\w.,])\d{{1,3}},\d\d?(?= ?(?:%|(?:{_ALONE})\b))",
         lambda m: re.sub("[. ]", "", m[0]).replace(",", ".")),
    rule("range of lengths", "1\"-2\" of snow", "one to two inches of snow",
         r"(?<=\d)(['\"]) ?- ?(?=\d{1,3}(?:[./]\d{1,3})?(['\"]))",
         lambda m: " to " if m[1] == m[2] else f"{m[1]} to "),
    rule("minus", "-5 or -$5", "minus five or minus five dollars",
         rf"(?<![\w.)-])-(?=\.?\d|{_SIGN}\d)|(?:(?<=GMT)|(?<=UTC))-(?=\d)",
         lambda m: f"{' ' if preceded_by(m, '[CT]$') else ''}minus "),
    rule("currency after", "5 EUR", "five euros", rf"{START}({AMOUNT}) ?(?:({_CURRENCY})\b|({_SIGN})(?! ?\d))",
         lambda m: (m[3] or _OTHERWISE[m[2]]) + m[1]),
    rule("pounds, shillings, pence", "£1 10s. 6d.", "one pound, ten shillings, six pence.",
         rf"£({NUMBER}),? (\d\d?)s\b{STOP}(?:,? (\d\d?)d\b{STOP})?", _old_money),
    rule("shillings and pence", "10s. 6d.", "ten shillings, six pence.",
         rf"(?<![\w.,])()([1-9]|1\d)s\.(?:,? (\d\d?)d\b{STOP}|(?= [a-z]))", _old_money),
    rule("money", "$3.50", "three dollars, fifty cents",
         rf"(?:(?<![A-Za-z])(US|AU?|CA?|HK|NZ|NT|S))?(?:({_SIGN})|\b({_CODE})) ?({NUMBER})(?:\.(\d+))?{_SCALED}"
         rf"(?:(?P<thing>(?= (?:bill|note|coin)s?\b|-[a-z]))|(?P<noun>{NOUN}))?", _money),
    rule("range of scaled numbers", "10-20K users", "ten to twenty thousand users",
         r"(?<![\w.,-])(\d{1,3})(?:([KkM])(?=-\d{1,3}\2))?-(?=\d{1,3}(?:[KkM]\b|[bm]n\b) (?:people\b|[a-z]{1,20}s\b))",
         r"\1 to "),
    rule("scaled number", "250K views", "two hundred fifty thousand views",
         rf"(?<![#\w.])(?<!\d,)({NUMBER})(?:\.(\d+))?([KkMB]\b|[bm]n\b|m(?= people\b))(?![/'.]\w|-[A-Z\d])"
         r"(?=( [a-z]{1,20}s\b| people)?)", _scaled),
    rule("coins", "99¢", "ninety-nine cents", rf"{START}(?<![A-Za-z])(\d{{1,2}})( ?¢|[cp]\b(?!\.\w))", _coins),
    rule("percent", "50%", "fifty percent", r"(?: ?%|(?<=\d)pc\b(?! (?:[a-z]+ )?(?:set|suit|kit)s?\b))(?=(\w?))",
         lambda m: " percent " if m[1] else " percent"),
)  # fmt: skip

MEASURES = (
    rule("age", "a 3yo, a 54 y/o man", "a three-year-old, a fifty-four-year-old man",
         r"(?<=\d)(?:yo|[ -]?y/o|[ -]?y\.o\.)(?!\w)", "-year-old"),
    rule("scientific notation", "1.5e-5", "one point five times ten to the minus five",
         rf"{START}(?<!\w)(\d+(?:\.\d+)?)[eE](?:(-)|\+)?(\d{{1,3}})\b(?![.,]?\d)",
         lambda m: words(m[1], "times ten to the", m[2] and "minus", numbers.cardinal(str(int(m[3]))))),
    rule("arc", "2°30'15\"", "two degrees thirty minutes fifteen seconds",
         r"(?<![\w.,])(\d{1,3}) ?[°º] ?(\d{1,2}) ?'(?!') ?(?:(\d{1,2}(?:\.\d{1,6})?) ?(?:\"|''))?(?: ?([NSEW])\b)?",
         _arc),
    rule("feet and inches", "6'2\"", "six feet two inches",
         r"(?<![\w.,'])(\d{1,2})(?:' ?| ?ft ?)"
         r"(?:(\d{1,2})(?:\"|''| ?ins?\b(?!\.| [A-Z\d]))|(1[01]|\d)(?![\w'/\"-]|[.,]\d| in\b| [a-z]{3,20}s\b))",
         lambda m: words(_counted(m[1], "foot", "feet"), _counted(m[2] or m[3], "inch", "inches"))),
    rule("length", "a 15\" screen, 12' long", "a fifteen inch screen, twelve feet long",
         r"(?<![\d\w])\"[^\"]{0,500}\"|(?<![\w\"])'[^']{0,200}'(?!\w)|"
         r"(?:(?<![\w.,/'\"])|(?<=['\"]x))(?P<number>\d{1,3}(?:\.\d{1,3})?|\d{1,2}/\d{1,2})(?P<mark>['\"])"
         r"(?![^\Wx]|['\"])", _length),
    rule("stones", "11st 4lb", "eleven stone four pounds",
         rf"(?<![\w.,])(\d{{1,2}})(?: ?st(?= \d{{1,2}} ?lbs?\b)|st\b{STOP})", _stones),
    rule("degrees", "45°F", "forty-five degrees Fahrenheit",
         rf"{START}({AMOUNT}) ?(?:[°º]|deg(?:\.(?= [CF]\b)|\b))(?: ?([CFNSEW])\b)?",
         lambda m: words(_counted(m[1], "degree", "degrees"), _DEGREES.get(m[2]))),
    rule("caliber", ".38-caliber", "thirty-eight-caliber",
         r"(?<!\w)\.(\d\d)(?=[ -](?:cal\b|[Cc]aliber|[Cc]alibre|[Ss]pecial|[Mm]agnum|[Rr]evolver|[Pp]istol|[Rr]ifle))",
         r"\1"),
    rule("range of fractions", "1/4-1/2 cup, 1 1/2-2 lbs", "one quarter to one half cup, one and a half to two pounds",
         rf"(?<=/[2-8])- ?(?=\d{{1,2}}(?: \d)?/[2-8]\b|[1-9] [a-z]|\d{{1,2}} ?(?:{_UNIT})\b)", " to "),
    rule("range of measures", "1500-1800 kg", "one thousand five hundred to one thousand eight hundred kilograms",
         rf"{START}(\d{{4}})-(\d{{1,4}})(?= ?(?:{_UNIT})\b)",
         lambda m: f"{numbers.cardinal(m[1])} to {_thousands(m[2])}"),
    rule("exposure", "1/250s", "one two hundred fiftieth of a second",
         rf"(?<![\w.,/])1/(\d{{2,4}}) ?s(?:ec)?\b{STOP}",
         lambda m: f"one {numbers.ordinal(m[1]).removeprefix('one ')} of a second"),
    rule("either of two", "50/60Hz, 110/220 V", "fifty sixty hertz, one ten two twenty volts",
         rf"(?<![\w.,/])(\d{{2,4}})/(\d{{2,4}}) ?([kMG]?Hz|V)\b{STOP}",
         lambda m: words(numbers.pairs(m[1]), numbers.pairs(m[2]), _names(m[3])[1])),
    rule("measure", "10 km/h, 6 sq. ft.", "ten kilometers per hour, six square feet.", _MEASURE, _measure),
    rule("mixed number", "2 1/2", "two and a half",
         r"(?<![\d.,])(?<!\d/)(\d{1,6})[ -](\d{1,2})/(\d{1,3})(?:rds?|ths?)?(?![\d/])", _mixed),
    rule("fraction", "3/4", "three quarters", r"(?<![\w.,/])(\d{1,3})/(\d{1,4})(?:rds?|ths?)?(?![\w/]|[.,]\d)|"
         r"(?<=\d\.\d)/(?=(?:4\.0|5|10)\b(?![/.]))", _fraction),
    rule("times", "3x4", "three by four",
         rf"(?:(?<=\d)|{_AFTER_LENGTH})(?: x |(?<!\b0)x)(?=\d)(?!\d+ x [a-z]|10\^)|"
         rf"(?:(?<=\d)×(?! )|(?<=\d\d\d) ×(?= \d\d\d)|(?:{_AFTER_LENGTH}) ×| ×(?= \d+(?:\.\d+)?(?: × \d+)?{_LENGTH})) ?"
         r"(?=\d(?!0\^|\d*(?: ?=| is\b| equals\b)))", " by "),
    rule("division", "10 / 2 = 5", "ten divided by two equals five", r"(?<=\d) / (?=\d+ ?=)", " divided by "),
    rule("power", "10^6", "ten to the power of six", r"(?<=[\w)])\^(?:([23])\b(?!\.\d)|(?=-?\w))",
         lambda m: {"2": " squared", "3": " cubed"}.get(m[1], " to the power of ")),
    rule("difference", "3-1=2", "three minus one equals two",
         r"(?<=\d) ?- ?(?=\d+ ?=)|(?<=[²³]) ?- ?(?=\w)", " minus "),
    rule("per unit", "12/kg, 9/km2", "twelve per kilogram, nine per square kilometer",
         rf"(?<=\d)/{_KIND}({_DIVISOR}){_POWER}", lambda m: f" {_per_unit(m[1] or m[3], m[2])}"),
    rule("per hundred", "5 l/100 km", "five liters per one hundred kilometers",
         r"(?<=[a-z])/(?=100 (?:kilometers|grams|milliliters)\b)", " per "),
    rule("sum", "2+2=4", "two plus two equals four", r"(?<=[\d\w)]) ?([+=]) ?(?=[-\d(]|[a-z]\b)",
         lambda m: {"+": " plus ", "=": " equals "}[m[1]]),
    rule("plus", "+5", "plus five", r"(?<!\w)\+(?=\.?\d)", "plus "),
    rule("product", "3 * 4", "three times four",
         r"(?<=\d) ?(?:\* ?(?=\d)|x ?(?=10 (?:to the|squared|cubed)\b))", " times "),
)  # fmt: skip

# Without a number before; after the measures.
PER = (
    rule("unit per unit", "km/h, m³/hr", "kilometers per hour, cubic meters per hour",
         rf"(?<![\w/.])(?:(sq|cu)\.? )?({_ALONE})(²|³)?/{_KIND}({_DIVISOR})(²|³)?(?![\w/])", _per),
    rule("for each", "miles/hour, €2/l", "miles per hour, two euros per liter",
         rf"(?<=[a-z]s)/({_LONGER})(?![\w/])|(?:(?<=dollars)|(?<=dollar)|(?<=euros)|(?<=euro)|(?<=pounds)|(?<=pound)|"
         rf"(?<=cents)|(?<=pence)|(?<=yen)|(?<=percent)|(?<={_SIGN}))/{_KIND}({_DIVISOR})(?![\w/]){STOP}",
         lambda m: f" {_per_unit(m[2], m[1] or m[3])}"),
    rule("for each, again", "2 mg/kg/day", "two milligrams per kilogram per day",
         rf"(?<= per )([a-z]{{3,20}})/({_DIVISOR})\b",
         lambda m: f"{m[1]} per {_names(m[2])[0]}"),
)  # fmt: skip
