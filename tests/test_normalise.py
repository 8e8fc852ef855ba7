"""Normalisation: what is written, and what a reader says. Sentences by class, each rule's own example, time."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from text import TextError
from text.english import numbers
from text.english.normalise import RULES, clean, english, explain
from text.score import is_table, score, score_cases, sounds_alike, words

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "ljspeech" / "metadata.csv"

SPOKEN = {
    "cardinal": [
        ("a crowd of 5 000 000", "a crowd of five million"),
        ("1500 people marched", "one thousand five hundred people marched"),
        ("2100", "two thousand one hundred"),
        ("1" * 20, " ".join(["one"] * 20)),
        ("-7 and −12", "minus seven and minus twelve"),
        ("1,000,000,000,000,000,001", "one quintillion one"),
        ("0, 00 and 007", "zero, zero and zero zero seven"),
        ("three 747s", "three seven forty-sevens"),
        ("the ٣٤ pages of １２", "the thirty-four pages of twelve"),
    ],
    "ordinal": [
        ("her 101st call", "her one hundred first call"),
        ("the 1,000th guest", "the one thousandth guest"),
        ("the 5th-6th centuries", "the fifth to sixth centuries"),
        ("on the 12TH floor", "on the twelfth floor"),
    ],
    "decimal": [
        ("a .5 share", "a point five share"),
        ("a .38-caliber pistol", "a thirty-eight-caliber pistol"),
    ],
    "fraction": [
        ("5/8, 2/3, 1/100", "five eighths, two thirds, one hundredth"),
        ("2 1/2 or 7¼", "two and a half or seven and a quarter"),
        ("½ and ⅛", "one half and one eighth"),
        ("9/250", "nine over two hundred fifty"),
        ("open 24/7", "open twenty-four seven"),
    ],
    "years": [
        ("In 1066, in 1805 and in 2010.", "In ten sixty-six, in eighteen oh five and in twenty ten."),
        ("In 412 the city burned.", "In four twelve the city burned."),
        ("in 412 places", "in four hundred twelve places"),
        ("about 250 B.C., or 2250 BC", "about two fifty B C, or twenty-two fifty BC"),
        ("the 1920s, the '60s and the 80s", "the nineteen twenties, the sixties and the eighties"),
        ("born in '45", "born in forty-five"),
        ("from 1914-18 to 2005-06", "from nineteen fourteen to eighteen to two thousand five to oh six"),
        ("A.D. 1150", "A D eleven fifty"),
        ("c. 1455", "circa fourteen fifty-five"),
    ],
    "dates": [
        ("In June 13, 323 B.C., he died", "In June thirteen, three twenty-three B C, he died"),
        ("On Oct. 3, 1999", "On October third, nineteen ninety-nine"),
        ("the 5 July talks", "the fifth of July talks"),
        ("2010-07-05 or 7/25/2010", "July fifth, twenty ten or July twenty-fifth, twenty ten"),
        ("25/12/1990", "the twenty-fifth of December, nineteen ninety"),
        ("July 4. On July 4 and July 4 2010.", "July fourth. On July four and July fourth twenty ten."),
        ("july 4 or JULY 4, but it may 4", "july fourth or JULY fourth, but it may four"),
        ("25th jul 2012, the 25th March, 17 may 2010", "the twenty-fifth of july, twenty twelve, "
         "the twenty-fifth March, the seventeenth of may, twenty ten"),
        ("Jan-15-2020 or 15.1.2020", "January fifteenth twenty twenty or the fifteenth of January, twenty twenty"),
        ("1960s-80s, mid-1980s", "nineteen sixties to eighties, mid-nineteen eighties"),
        ("in Q3 2021", "in the third quarter of twenty twenty-one"),
        ("Mon., 6 May", "Monday, the sixth of May"),
        ("May 5-7", "May five to seven"),
        ("13/13/2010 is none", "thirteen thirteen twenty ten is none"),
        ("Mon-Fri, Sat & Sun", "Monday to Friday, Saturday and Sunday"),
        ("Mon–Wed and Thu/Fri", "Monday to Wednesday and Thursday or Friday"),
        ("from Sept to Nov 2021", "from September to November twenty twenty-one"),
        ("on 2024-05-03T10:30:00Z", "on May third, twenty twenty-four, ten hours thirty minutes and zero seconds Z"),
        ("Jan 1 - Mar 31", "January first to March thirty-first"),
        ("FY24, FY 2023, CY2020", "F Y twenty-four, F Y twenty twenty-three, C Y twenty twenty"),
        ("10-4 Sat", "ten to four Saturday"),
        ("in mid-June 1964", "in mid-June nineteen sixty-four"),
        ("Apr.–June, Thurs–Sat", "April to June, Thursday to Saturday"),
        ("15 Mar–2 Apr", "the fifteenth of March to the second of April"),
    ],
    "times": [
        ("at 8am or 8 P.M.", "at eight AM or eight PM."),
        ("It was 5 p.m. He left.", "It was five PM. He left."),
        ("10:30-11:30 a.m.", "ten thirty to eleven thirty AM."),
        ("at 7.15 p.m. sharp", "at seven fifteen PM sharp"),
        ("4:00 am - 8:12 pm e.s.t.", "four AM to eight twelve PM EST."),
        ("I am 5 amazing years old", "I am five amazing years old"),
        ("2h 15m, 1h30, 3h 5m 10s", "two hours fifteen minutes, one hour thirty, three hours five minutes ten seconds"),
        ("90m 20s, 1d 4h", "ninety minutes twenty seconds, one day four hours"),
        ("a time of 9.58s, a 3:45.2 mile", "a time of nine point five eight seconds, a three forty-five point two "
         "mile"),
        ("10am–noon", "ten AM to noon"),
        ("0800-1700, at 0630, by 1430 hours", "zero eight hundred to seventeen hundred, at zero six thirty, by "
         "fourteen thirty hours"),
        ("the 1400 hours of work", "the fourteen hundred hours of work"),
        ("2145 hours", "twenty-one forty-five hours"),
    ],
    "money": [
        ("£1 10s. 6d. a week", "one pound, ten shillings, six pence a week"),
        ("a debt of 4s. 2d. only", "a debt of four shillings, two pence only"),
        ("$460 billion, £2.5m, $5bn", "four hundred sixty billion dollars, two point five million pounds, "
         "five billion dollars"),
        ("$5-$10 million", "five to ten million dollars"),
        ("US$20, 30 EUR, GBP 1", "twenty US dollars, thirty euros, one pound"),
        ("a $5 bill, $1, $.50", "a five dollar bill, one dollar, fifty cents"),
        ("99¢ and 20p", "ninety-nine cents and twenty pence"),
        ("-$5 and $30/day", "minus five dollars and thirty dollars per day"),
        ("¥500", "five hundred yen"),
        ("£2000, £0.01", "two thousand pounds, one penny"),
        ("$20.5, $20.500 and $0.010", "twenty dollars, fifty cents, twenty dollars, fifty cents and one cent"),
        ("$250-$300 and $1.50-$2", "two hundred fifty dollars to three hundred dollars and "
         "one dollar, fifty cents to two dollars"),
        ("a $100M deal and a $5 million home", "a one hundred million dollar deal and a five million dollar home"),
        ("the $300 fine was $300", "the three hundred dollar fine was three hundred dollars"),
        ("$5-a-head meals, a $10-million grant", "five dollar-a-head meals, a ten million dollar grant"),
        ("$9.99/month, £2/kg, €2/l", "nine dollars, ninety-nine cents per month, two pounds per kilogram, two "
         "euros per liter"),
        ("CHF 1, SEK 200, 300 NOK", "one Swiss franc, two hundred Swedish kronor, three hundred Norwegian kroner"),
        ("₪20, ₺10, ₱40, ₴60", "twenty shekels, ten lira, forty pesos, sixty hryvnias"),
        ("MX$8, R$2, Rs. 500", "eight Mexican pesos, two reais, five hundred rupees"),
        ("€1.234,56 or 1,50 €", "one thousand two hundred thirty-four euros, fifty-six cents or one euro, fifty cents"),
        ("about $5k–$10k, a $12.50 lunch", "about five thousand dollars to ten thousand dollars, a twelve dollar, "
         "fifty cent lunch"),
    ],
    "measures": [
        ("6 ft. 2 in. tall", "six feet two inches tall"),
        ("He is 6 ft. He runs.", "He is six feet. He runs."),
        ("150 lbs., 1 lb and 5'10\"", "one hundred fifty pounds, one pound and five feet ten inches"),
        ("10 km/h, 9.8 m/s², 30 mph", "ten kilometers per hour, nine point eight meters per square second, "
         "thirty miles per hour"),
        ("45°F, -3 °C, 1°", "forty-five degrees Fahrenheit, minus three degrees Celsius, one degree"),
        ("12 m², 3 sq. ft. and 5 cm3", "twelve square meters, three square feet and five cubic centimeters"),
        ("a 6.5-mm rifle", "a six point five millimeter rifle"),
        ("1/2 mi and 2 1/2 hrs", "one half mile and two and a half hours"),
        ("100 million kg and 12/kg", "one hundred million kilograms and twelve per kilogram"),
        ("500MB at 2.4 GHz", "five hundred megabytes at two point four gigahertz"),
    ],
    "ranges": [
        ("30-45 or 1.5–2.5", "thirty to forty-five or one point five to two point five"),
        ("1980-1970 kg", "one thousand nine hundred eighty to one thousand nine hundred seventy kilograms"),
        ("$10-20", "ten to twenty dollars"),
        ("a 3:1 lead", "a three to one lead"),
    ],
    "roman": [
        ("William IV. was king.", "William the fourth was king."),
        ("Charles I., and Henry V of England", "Charles the first, and Henry the fifth of England"),
        ("Robert I. Bouck met Mary. I left.", "Robert I. Bouck met Mary. I left."),
        ("Chapter IV, Act I, vol. ii", "Chapter four, Act one, volume two"),
        ("World War II and Part V.", "World War two and Part five."),
        ("Super Bowl LIV", "Super Bowl fifty-four"),
        ("Louis XIV's court", "Louis the fourteenth's court"),
        ("the XIX century", "the nineteenth century"),
        ("Malcolm X, an IV drip, the DVD mix", "Malcolm X, an IV drip, the DVD mix"),
        ("The part I played", "The part I played"),
        ("Rocky IV, Iron Man III, Malcolm Young II", "Rocky four, Iron Man three, Malcolm Young two"),
        ("page xii, verses i and ii, pp. ix-xi", "page twelve, verses one and two, pages nine to eleven"),
        ("MCMXCIX, XCI and LXXXIX", "nineteen ninety-nine, XCI and eighty-nine"),
        ("Super Bowl XCI, Chapter CXII", "Super Bowl ninety-one, Chapter one hundred twelve"),
        ("Type I errors; the Type I like", "Type one errors; the Type I like"),
        ("(iv), the xix century", "(four), the nineteenth century"),
        ("a DVD MIX of CIVIL CDs", "a DVD MIX of CIVIL CDs"),
        ("the XVIIIth and XIXth centuries", "the eighteenth and nineteenth centuries"),
        ("Volume XC, World Wars I and II, WWII", "Volume ninety, World Wars one and two, World War two"),
    ],
    "addresses": [
        ("544 Camp Street", "five four four Camp Street"),
        ("at 1026 North Beckley", "at ten twenty-six North Beckley"),
        ("12 Elm St., Apt. 5, Gary, IN 46401", "twelve Elm street, Apartment five, "
         "Gary, Indiana four six four zero one"),
        ("Dallas, TX, or Austin, Tex., today", "Dallas, Texas, or Austin, Texas, today"),
        ("P.O. Box 30016", "P O Box three zero zero one six"),
        ("Well, OK, I said", "Well, OK, I said"),
        ("near 42nd St. and 5th Ave.", "near forty-second street and fifth avenue."),
    ],
    "codes": [
        ("Exhibit No. 133-A on page 249", "Exhibit number one thirty-three A on page two forty-nine"),
        ("No. 7; No. 150; No. 2,202,130,462", "number seven; number one fifty; "
         "number two two zero two one three zero four six two"),
        ("C2766, VC836, B52", "C two seven six six, V C eight three six, B fifty-two"),
        ("an F-16, an AK-47, COVID-19", "an F sixteen, an A K forty-seven, COVID nineteen"),
        ("your code is 8876, ab9453", "your code is eight eight seven six, ab nine four five three"),
        ("a 401(k)", "a four oh one k"),
        ("P.S. 117 and a 747", "P S one seventeen and a seven hundred forty-seven"),
        ("version 3.10.2 at 10.0.0.1", "version three point ten point two at one zero dot zero dot zero dot one"),
        ("H.265, x86-64, v1.2.3, A1c", "H two sixty-five, x eighty-six sixty-four, v one point two point three, "
         "A-one c"),
        ("Section G.2, Table B.12", "Section G two, Table B twelve"),
        ("Fig. 12c", "Figure twelve c"),
    ],
    "telephone": [
        ("555-0144", "five five five, zero one four four"),
        ("(555) 010-4477", "five five five, zero one zero, four four seven seven"),
        ("1-800-555-0199", "one, eight hundred, five five five, zero one nine nine"),
        ("+44 20 7946 0958", "plus four four, two zero, seven nine four six, zero nine five eight"),
        ("call 911", "call nine one one"),
        ("1-800-555-0199 or 1 (800) 555-0199", "one, eight hundred, five five five, zero one nine nine or "
         "one, eight hundred, five five five, zero one nine nine"),
        ("call 5550100477", "call five five five zero one zero zero four seven seven"),
        ("1234 5678 9012 3456", "one two three four, five six seven eight, nine zero one two, three four five six"),
        ("078-05-1120", "zero seven eight, zero five, one one two zero"),
        ("500-1000 people", "five hundred to one thousand people"),
    ],
    "electronic": [
        ("ann.lee@mail.org.", "ann dot lee at mail dot org."),
        ("see www.bbc.co.uk, please", "see WWW dot BBC dot co dot UK, please"),
        ("https://example.com/a_1", "HTTPS colon slash slash example dot com slash a underscore one"),
        ("www.example.com/a-b", "WWW dot example dot com slash a dash B"),
        ("ann@mail.org/x?y=1", "ann at mail dot org slash X question mark y equals one"),
        ("file:///a/read_me.txt or plan.pdf", "file colon slash slash slash a slash read underscore me dot TXT "
         "or plan dot PDF"),
        ("#news from @ann", "hashtag news from at ann"),
    ],
    "abbreviations": [
        ("Mr. & Mrs. Poe, Dr Lee and St. Paul", "mister and missus Poe, doctor Lee and saint Paul"),
        ("on Elm St. He ran.", "on Elm street. He ran."),
        ("Dr. King, Jr., of St. Paul", "doctor King, junior, of saint Paul"),
        ("No. 7. No. I did", "number seven. No. I did"),
        ("Mulholland Dr. is long; Dr. Hall is not.", "Mulholland drive is long; doctor Hall is not."),
        ("at St. Paul and Elm Streets in Bury St. Edmunds", "at saint Paul and Elm Streets in Bury saint Edmunds"),
        ("salt, etc. It was, i.e. it is.", "salt, et cetera. It was, that is it is."),
        ("e.g., Rose & Co. They sell.", "for example, Rose and company. They sell."),
        ("Roe v. Wade; Ali vs. Frazier", "Roe versus Wade; Ali versus Frazier"),
        ("pp. 5-6, fig. 3, approx. 9", "pages five to six, figure three, approximately nine"),
        ("the FBI and NASA", "the FBI and NASA"),
        ("a Ph.D. from Ft. Worth", "a P H D from fort Worth"),
        ("Figs. 3 and 4; Eqs. 2-3; Chs. 1-2", "Figures three and four; Equations two to three; Chapters one to two"),
        ("See App. C, Tab. 2 and Sect. 5.", "See Appendix C, Table two and Section five."),
        ("The mfr. shipped 2 pkg. today.", "The manufacturer shipped two packages today."),
        ("min. order, max. load, avg. price", "minimum order, maximum load, average price"),
        ("Attn: Sales, w/o fail b/c of it", "attention: Sales, without fail because of it"),
        ("Jones et al. found it.", "Jones et al found it."),
        ("b. 1950, d. 1999", "born nineteen fifty, died nineteen ninety-nine"),
        ("Wed. was dry; on Fri. it snowed.", "Wednesday was dry; on Friday it snowed."),
        ("Rm. 12, Apt 4B, Fl. 3", "Room twelve, Apartment four B, Floor three"),
        ("10 Elm St. NW", "ten Elm street NW"),
        ("Bldg. C, Vol. XL, vol. cxx, Sc. iii", "Building C, Volume forty, volume one hundred twenty, Scene three"),
        ("an apt remark; he ate a fig. He was fed. Then", "an apt remark; he ate a fig. He was fed. Then"),
        ("The corp. paid the prof. in full.", "The corporation paid the professor in full."),
        ("Sat. we rest; the Sun. It rose", "Saturday we rest; the Sun. It rose"),
    ],
    "signs": [
        ("3-1=2", "three minus one equals two"),
        ("±5, ~7, 10^6 and 5²", "plus or minus five, about seven, ten to the power of six and five squared"),
        ("*so* _good_ **now**", "so good now"),
        ("[sic] {so} <b>bold</b>", "(sic) (so) bold"),
        ("“It’s” 🙂 a café… © Ann™", '"It\'s" a cafe... Ann'),
        ("and/or; § 5; #1", "and or; section five; number one"),
        ("F#, C#, .NET and ASP.NET", "F sharp, C sharp, dot net and A S P dot net"),
        ("AT&T's, Q&A", "A T and T's, Q and A"),
        ("50 %off, mg/dL, calls/hour", "fifty percent off, milligrams per deciliter, calls per hour"),
        ("5%<10%, G♯ and A♭", "five percent less than ten percent, G sharp and A flat"),
        ("any.TextGrid, so.It is", "any.TextGrid, so. It is"),
    ],
    "sentence ends": [
        ("He moved to the U.K. They stayed.", "He moved to the U K. They stayed."),
        ("She got a B. Her brother got an A.", "She got a B. Her brother got an A."),
        ("She has a Ph.D. Her work is known.", "She has a P H D. Her work is known."),
        ("the U.N. Security Council met", "the U N Security Council met"),
        ("at 3 a.m. We slept.", "at three AM. We slept."),
        ("He works at Acme Inc. She does too.", "He works at Acme incorporated. She does too."),
        ("P.S. I love you.", "P S I love you."),
        ("Malcolm X. He spoke.", "Malcolm X. He spoke."),
        ("J. Smith met A. Jones and A. A. Milne.", "J Smith met A-Jones and A A-Milne."),
        ("Hello,you.This is it.Dr.Lee spoke.", "Hello, you. This is it. doctor Lee spoke."),
        ("We meet at 6 p.m. Bring food. At 5 p.m. Friday", "We meet at six PM. Bring food. At five PM Friday"),
        ("The F.B.I. Director spoke", "The F B I Director spoke"),
    ],
    "powers": [
        ("10^6, 10⁻³ m, 6.022×10²³", "ten to the power of six, ten to the power of minus three meters, six point "
         "zero two two times ten to the power of twenty-three"),
        ("x³ + z⁴, aⁿ", "x cubed plus z to the power of four, a to the power of n"),
        ("6.02e23 and 1E-9", "six point zero two times ten to the twenty-three and one times ten to the minus nine"),
        ("H₂O, m/s^2, 10 m/s^2", "H two O, meters per second squared, ten meters per square second"),
        ("④ ⑩ ⅷ ℃", "four ten eight degrees C"),
        ("10³ m, x² - y², n^2", "ten cubed meters, x squared minus y squared, n squared"),
    ],
    "comparisons": [
        ("x<5, y>=3, z==2", "x less than five, y greater than or equal to three, z equals two"),
        ("a <= b, k!=m, a->b", "a less than or equal to b, k not equal to m, a to b"),
        ("4!=24", "four factorial equals twenty-four"),
        ("p < 0.05, <3", "p less than zero point zero five, three"),
    ],
    "Greek": [
        ("β-blocker, μ = 0, σ", "beta-blocker, mu equals zero, sigma"),
        ("2π r and ∆T", "two pi r and delta T"),
        ("3 MΩ, the Ω", "three megaohms, the omega"),
        ("Ελλάς", "Ellas"),
    ],
    "scales": [
        ("250K views, 3B users, 1.2k likes", "two hundred fifty thousand views, three billion users, one point "
         "two thousand likes"),
        ("2.5m people and 4.5B years", "two point five million people and four point five billion years"),
        ("a 10K run, apt. 3B, a 401K", "a ten K run, apartment three B, a four zero one K"),
        ("the 1000s, 100s, 10,000s", "the thousands, hundreds, ten thousands"),
        ("1.234.567, 1'000'000 and 1,50,000", "one million two hundred thirty-four thousand five hundred "
         "sixty-seven, one million and one hundred fifty thousand"),
        ("BP 120/80, not 3/4", "BP one twenty over eighty, not three quarters"),
    ],
    "labels": [
        ("ISBN-13: 9780306406157", "ISBN thirteen: nine seven eight zero three zero six four zero six one five seven"),
        ("ISBN: 0-8044-2957-X", "ISBN: zero eight zero four four two nine five seven X"),
        ("ZIP 90210", "ZIP nine zero two one zero"),
        ("dial 999 or 112", "dial nine nine nine or one one two"),
        ("In an emergency, 911 is free.", "In an emergency, nine one one is free."),
        ("room 101A", "room one oh one A"),
    ],
    "markup": [
        ("Tom &amp; Ann &#39;s &lt;b&gt;", "Tom and Ann 's"),
        ("one<br/>two <a href=\"x.html\">three</a>", "one two three"),
        ("[site](http://a.org) and ![img](b.png)", "site and img"),
        ("## 2. ~~Next~~", "two. Next"),
        ("a<b and c>d", "a less than b and c greater than d"),
    ],
    "arcs and lengths": [
        ("45°30′, 40°26′46″N", "forty-five degrees thirty minutes, forty degrees twenty-six minutes forty-six "
         "seconds north"),
        ("a 6' wall, a 27\" screen, 5'11\" tall", "a six foot wall, a twenty-seven inch screen, five feet eleven "
         "inches tall"),
        ("\"a 5\" and '6'", "\"a five\" and 'six'"),
        ("10 kW, 5 A, 15A; room 15A", "ten kilowatts, five amps, fifteen amps; room fifteen A"),
        ("a 5 lb bag, a 10 km run", "a five pound bag, a ten kilometer run"),
        ("a ¼\" bolt", "a one quarter inch bolt"),
        ("10' x 12', 8' high", "ten feet by twelve feet, eight feet high"),
        ("2 mg/kg/day", "two milligrams per kilogram per day"),
    ],
}  # fmt: skip
PAIRS = [pytest.param(*pair, id=f"{name}-{i}") for name, pairs in SPOKEN.items() for i, pair in enumerate(pairs)]


@pytest.mark.parametrize(("written", "spoken"), PAIRS)
def test_what_is_said(written, spoken):
    assert english(written) == spoken


@pytest.mark.parametrize(("written", "spoken"), PAIRS)
def test_what_is_said_is_said_again(written, spoken):
    assert english(spoken) == spoken, written


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_does_what_its_example_says(rule):
    assert english(rule.written) == rule.spoken
    assert rule.name in [each.name for each, _ in explain(rule.written)]


def test_the_rules_have_names_of_their_own():
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_an_explanation_ends_in_what_is_said():
    steps = explain("Mrs. Lee paid £3 on 5 May.")
    assert clean(steps[-1][1]) == english("Mrs. Lee paid £3 on 5 May.")
    assert [rule.name for rule, _ in steps] == ["abbreviation", "day before its month", "money"]
    assert explain("Nothing here.") == []


@pytest.mark.parametrize("text", [
    "It is a truth universally acknowledged, that a man - he said - must want it; \"why?\" (or so).",
    "I, Mr Toad's friend X, did mix a civil liquid; the V and the I.",
    "May I march in May, or will I sit on the sun? No. I said no.",
])  # fmt: skip
def test_plain_sentences_stay_as_they_are(text):
    assert english(text) == text.replace("Mr ", "mister ")


def test_numbers():
    assert [numbers.pairs(each) for each in ("605", "500", "1900", "2000", "2005", "2150", "45")] == [
        "six oh five", "five hundred", "nineteen hundred", "two thousand", "two thousand five", "twenty-one fifty",
        "forty-five",
    ]  # fmt: skip
    assert [numbers.roman(each) for each in ("I", "iv", "XIV", "XXXIX", "IIII", "VX", "", "XLIV", "XCIX", "CIVIL")] == [
        1, 4, 14, 39, None, None, None, 44, 99, None,
    ]  # fmt: skip
    assert [numbers.roman(each) for each in ("MCMXCIX", "MMXXIV", "cdxliv", "MMMM")] == [1999, 2024, 444, None]


@pytest.mark.parametrize("unit", ["1", "1,111,"])
@pytest.mark.parametrize(
    "form", ["{}K", "${}.50", "{}%", "{}/{}", "{}th", "{}:30", "1.{}", "$5-{} million", "3 x 10^{}"]
)
def test_numbers_of_any_length(unit, form):
    """Python refuses to convert more than 4,300 digits."""
    digits = (unit * 5000)[:5000].rstrip(",")
    assert not re.search(r"\d", english(f"It is {form.format(digits, digits)} now."))


def test_numbers_are_made_words_by_one_thread_at_a_time(monkeypatch):
    """inflect's engine keeps notes of the call that it is at."""
    at_once = []

    class Engine:
        def number_to_words(self, number, **_):
            at_once.append(number)
            time.sleep(0.001)
            assert at_once == [number]
            at_once.clear()
            return "a number"

    monkeypatch.setattr(numbers, "_inflect", Engine)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(numbers._words.__wrapped__, range(40))) == {"a number"}


UNITS = [
    "a", "1", "1,", "1.", "1 ", "1-", "A-", "A1", "A.", "a.", "a@", "a/", "'1", "\"'", "$1 ", "I ", "IV ", "Elm St. ",
    "1 Elm ", "No. 1", "www.", "<a", "*", "_a", "\u0316\u0301", "1/2", "5 May ", "p.m.", "Mr. 1,200 ", "Chapter I ",
    "\"a 5", "'a ", "<a =", "(a)", "(a](b.", "&a", "Mon-", "iv, ", "chapters iv, ", "I'M ", "A ", "α", "5⁶", "x^",
    "1e5", "call a ", "5h", "0800-", "$5-", "5°3'", "a/kg", "sh", "1.000", "Queen A", "A.A",
]  # fmt: skip


def _seconds(unit, length):
    def one():
        start = time.process_time()
        english(unit * (length // len(unit)))
        return time.process_time() - start

    return min(one(), one())


@pytest.mark.parametrize("unit", UNITS)
def test_time_grows_with_the_length(unit):
    """Twice the text, twice the time; a pattern that goes back over what it has read takes four times."""
    _seconds(unit, 1000)  # what is loaded when first needed
    assert _seconds(unit, 12_000) < 3 * _seconds(unit, 6_000) + 0.05


def test_comparison_counts_words_alone():
    assert words("Mr. Brown-Smith, and St. John's!") == words("mister brown smith saint johns")
    assert words("at 5 p.m.") == words("at PM") == ["at", "p", "m"]
    assert words("Führer") == ["fuhrer"]
    assert words("one two") != words("two one")


def test_score_counts_lines_with_digits():
    lines = ["a|In 1963|In nineteen sixty-three", "b|5 and 6|five six\n", "c|none|other", "d|7|eight"]
    total, misses = score(lines, english)
    assert total == 3
    assert [tuple(miss) for miss in misses] == [("d", "7", "eight", "seven")]
    with pytest.raises(TextError, match="line 2"):
        score([lines[0], "a|b"], english)


def test_readings_that_sound_alike():
    assert sounds_alike("the FBI, twenty-one!", "The F B I twenty one")
    assert sounds_alike("R and B? Yes.", "R and B? yes")
    assert not sounds_alike("misterSmith", "mister Smith")
    assert not sounds_alike("Plan B It worked.", "Plan B. It worked.")  # the sentence's end is lost
    assert not sounds_alike("a one", "a two")


def test_a_table_of_cases_is_scored_by_class():
    lines = ["class\tinput\twanted\n", "a\t3 of\tthree of || tres of\n", "b\t7\teight\n", "b\t8\teight\n"]
    assert is_table(lines) and not is_table(["a|In 1963|In nineteen sixty-three"])
    counts, misses = score_cases(lines, english)
    assert counts == {"a": 1, "b": 2}
    assert [tuple(miss) for miss in misses] == [("b", "7", "eight", "seven")]
    with pytest.raises(TextError, match="line 3"):
        score_cases([*lines[:2], "b\t8\n"], english)


@pytest.mark.skipif(not CORPUS.is_file(), reason="the LJSpeech corpus is not here")
def test_ljspeech_is_said_as_its_people_wrote_it():
    with open(CORPUS, encoding="utf-8") as file:
        total, misses = score(file, english)
    assert total > 700
    assert len(misses) <= 0.02 * total, [miss.written for miss in misses]


@pytest.mark.skipif(not CORPUS.is_file(), reason="the LJSpeech corpus is not here")
def test_what_people_wrote_out_stays():
    """Lines without abbreviations, dashes and letters that ASCII has not are their own normalisation."""
    with open(CORPUS, encoding="utf-8") as file:
        spoken = [line.rstrip("\n").split("|")[2] for line in file]
    plain = [
        " ".join(each.split()) for each in spoken if re.fullmatch(r"(?:[A-Za-z'\",;:!?() -]|[a-z]{3}\.\"?$)+", each)
    ]
    plain = [each for each in plain if "--" not in each and not re.search(r" [,;:!?]|\b(etc|viz)\.", each)]
    assert len(plain) > 5000
    changed = [each for each in plain if english(each) != each]
    assert changed == []
