"""Letter-to-sound rules of English, for words that no dictionary has: ARPAbet with stress, from the spelling alone."""

import functools
import re

_SILENT_E = "[^aeiouwxy]e(?:$|s$|d$|ly$|less|ful|ment)"
_SOFT = "[^aeiouwxy]i(?:on|ou|a[ln]?|um)"  # as in nation, spacious, Canadian, radium
_ING = "[^aeiouwxy](?:ing|or|able)"

# For each letter the rules in order: the letters that one reads, with what must stand around them, and their phones.
_RULES = {
    "a": (("augh(?=t)", "AO"), ("a[uw]", "AO"), ("ai(?=r)", "EH"), ("a[iy]", "EY"), ("ae", "IY"),
          ("a(?=re$|res$|ry$)", "EH"), ("(?<=w)a(?=r)", "AO"), ("(?<=[^aeiou])ar(?=d$|ds$|$|s$)(?<=...ar)", "AH R"),
          ("a(?=r)", "AA"), ("(?<=w)a(?=[nst])", "AA"), ("(?<=qu)a(?=[^aeiouy][^e])", "AA"), ("a(?=ll$|l[dkt])", "AO"),
          ("al(?=m)", "AA"), ("(?<=...)age(?=s?$)", "IH JH"), ("a(?=nge|ste$)", "EY"), ("a(?=ble|bly)(?<=..a)", "AH"),
          ("(?<=..[^aeiou])ate(?=ly$|$)", "EY T"), (f"a(?={_SILENT_E}|{_SOFT}|{_ING}$|ti|[cv][iy]$)", "EY"),
          ("a(?=h)", "AA"), ("a$", "AH"), ("a(?=[ln]$|ns$|ls$)(?<=..a)", "AH"), ("^a(?=[bcfgl])(?=.[aeiou])", "AH"),
          ("(?<=[aeiouy][^aeiouy])a(?=[^aeiouy][aeiouy])", "AH"), ("aa", "AA"), ("a", "AE")),
    "b": (("bb", "B"), ("(?<=m)b(?=$|s$)", ""), ("b(?=t)", ""), ("b", "B")),
    "c": (("^ch(?=r)", "K"), ("ch(?=[lr])", "K"), ("ch", "CH"), ("ci(?=[ao])", "SH"), ("cc(?=[eiy])", "K S"),
          ("cc", "K"), ("ck", "K"), ("cqu", "K W"), ("cz", "CH"), ("c(?=[eiy])", "S"), ("c", "K")),
    "d": (("dge", "JH"), ("dg", "JH"), ("dd", "D"), ("d", "D")),
    "e": (("(?<=[pkfsxh])ed$", "T"), ("eigh", "EY"), ("ei(?=gn)", "EY"), ("ei(?=n)", "AY"), ("ei", "IY"), ("ey$", "IY"),
          ("eys$", "IY Z"), ("ey", "EY"), ("eau", "OW"), ("eu", "Y UW"), ("(?<=[lrjsd])ew", "UW"), ("ew", "Y UW"),
          ("ee", "IY"), ("ea(?=r[dlnt])", "ER"), ("(?<=ear)ea", "IY"), ("ea(?=th|d$|ds$|lth|sure)", "EH"), ("ea", "IY"),
          ("eo", "IY OW"), ("(?<=.[td])ed$", "IH D"), ("e(?=d$)(?<=...)", ""), ("(?<=s|z|x)e(?=s$)", "IH"),
          ("(?<=ch|sh)e(?=s$)", "IH"), ("(?<=[cg])e(?=s$)", "IH"), ("e(?=s$)", ""), ("e(?=r[aeiouy])(?!re$)", "EH"),
          ("er(?=[^aeiouy]|$)", "ER"), ("e(?=re$)", "IY"), ("(?<=^[^aeiouy])e$", "IY"),
          ("(?<=^[^aeiouy][^aeiouy])e$", "IY"), ("e$", ""), ("(?<=[^aeiouy])e(?=ly$|ment|ful|less|ness)", ""),
          ("(?<=[aeiou][^aeiouy])el(?=s?$)", "AH L"), ("(?<=[^aeiouy])en(?=s?$)(?<=...n)", "AH N"),
          ("e(?=nt$|nts$|nce)(?<=...e)", "AH"), (f"e(?={_SILENT_E}|{_SOFT})", "IY"), ("^e(?=[^aeiouy][aeiouy])", "IH"),
          ("(?<=^[dr])e(?=[^aeiouyx][aeiouylr])", "IH"), ("(?<=[aeiouy][^aeiouy])e(?=[^aeiouy][aeiouy])", "AH"),
          ("e", "EH")),
    "f": (("ff", "F"), ("f", "F")),
    "g": (("^gn", "N"), ("g(?=n$|ns$|ned$)", ""), ("gh(?=t)", ""), ("^gh", "G"), ("(?<=[aeo]u)gh$", "F"),
          ("(?<=[aeiou])gh", ""), ("gg", "G"), ("gu(?=[eiy])", "G"), ("(?<=r)ge$", "JH"), ("g(?=e[lrt])", "G"),
          ("g(?=[ey])", "JH"), ("^g(?=i)", "G"), ("g(?=i)", "JH"), ("g", "G")),
    "h": (("(?<=[aeou])h(?=$|[^aeiouy])", ""), ("(?<=[rkg])h", ""), ("h", "HH")),
    "i": (("igh", "AY"), ("i(?=gn|ld$|nd$)", "AY"), ("ie(?=[dsr]?$)(?<=^..ie)", "AY"), ("ier$", "IY ER"),
          ("ie(?=[ds]?$)", "IY"), ("ie(?=w)", ""), ("ie(?=[^aeiouyt]e)", "IY"), ("i(?=et)", "AY"), ("ie", "IY"),
          ("ir(?=[^aeiouy]|$)", "ER"), ("i(?=re)", "AY"), ("(?<=[cst])i(?=on|ou|a)", ""), ("i(?=sm)", "IH"),
          ("i(?=[sz]e)", "AY"), ("i(?=[sz]ing|[sz]ation)", "AY"), ("(?<=..[^aeiou])i(?=ne$|ve$|te$|le$)", "IH"),
          (f"i(?={_SILENT_E}|{_ING}$)", "AY"), ("i(?=[cv]al|[cv]ity)", "IH"), ("i$", "IY"),
          ("^i(?=[^aeiouy][aeiouy])", "IH"), ("i(?=[aou])", "IY"), ("i", "IH")),
    "j": (("j", "JH"),),
    "k": (("^kn", "N"), ("kk", "K"), ("k", "K")),
    "l": (("(?<=[^aeiourlwy])le(?=$|s$|d$)", "AH L"), ("ll", "L"), ("l(?=[km]$)(?<=al)", ""),
          ("l(?=f$|ves$)(?<=al)", ""), ("l", "L")),
    "m": (("^mac(?=[^aeiouyhk])", "M AH K"), ("^mc(?=k)", "M AH"), ("^mc", "M AH K"), ("mm", "M"), ("m", "M")),
    "n": (("(?<=m)n$", ""), ("ng(?=$|s$|[^aeioulry]|ing|ed$)", "NG"), ("ng(?=[lr]|[aou])", "NG G"),
          ("n(?=[kqx])", "NG"), ("n(?=c[^eihy])", "NG"), ("nn", "N"), ("n", "N")),
    "o": (("ough(?=t)", "AO"), ("ough", "OW"), ("oo(?=k|d$)", "UH"), ("oo", "UW"), ("o[iy]", "OY"), ("oa", "OW"),
          ("oe", "OW"), ("ous(?=$|ly|ness)", "AH S"), ("our(?=[^aeiouy]|$)(?<=..our)", "AO R"), ("ou(?=p|s$)", "UW"),
          ("ould", "UH D"), ("ou", "AW"), ("ow(?=n$|l$|er|d)", "AW"), ("ow", "OW"),
          ("(?<=...)ors?$(?<=[aeiou].or)", "ER"), ("(?<=w)or", "ER"), ("(?<=.[stdl])or(?=s?$)", "ER"), ("o(?=r)", "AO"),
          ("o(?=l[dklt])", "OW"), ("o(?=ss|st$|ff|ft|ng$|ngs$)", "AO"), ("(?<=[cstg]i)on(?=$|s|ed|ing|al)", "AH N"),
          ("(?<=[^aeiouy])on(?=s?$)(?<=...n)", "AH N"), ("(?<=[^aeiouy])om(?=e?s?$)", "AH M"), ("o$", "OW"),
          ("os$", "OW Z"), (f"o(?={_SILENT_E}|{_SOFT}|{_ING}$)", "OW"), ("(?<=^pr)o(?=[^aeiouy][aeiouylr])", "AH"),
          ("^o(?=[^aeiouy][aeiouy])", "OW"), ("(?<=[aeiouy][^aeiouy])o(?=[^aeiouy][aeiouy])", "AH"), ("o", "AA")),
    "p": (("ph", "F"), ("^pn", "N"), ("^ps", "S"), ("pp", "P"), ("p", "P")),
    "q": (("qu(?=e$|es$|et)", "K"), ("qu", "K W"), ("q", "K")),
    "r": (("^rh", "R"), ("rrh", "R"), ("rr", "R"), ("r", "R")),
    "s": (("sch", "SH"), ("sci", "S AY"), ("sc(?=[ey])", "S"), ("ssion", "SH AH N"), ("ssi(?=a)", "SH"),
          ("ssure", "SH ER"), ("(?<=[aeiouy])sion", "ZH AH N"), ("sion", "SH AH N"), ("(?<=[aeiou])sure", "ZH ER"),
          ("sh", "SH"), ("ss", "S"), ("(?<=[aeiouy])s(?=ing|ed$|e$|es$|y$|er$|m)", "Z"), ("(?<=[bdglmnrvwy])s$", "Z"),
          ("(?<=[^s]e)s$", "Z"), ("(?<=[ao])s$", "Z"), ("s", "S")),
    "t": (("tch", "CH"), ("th(?=e[rn]|ing$|es?$)(?<=[aeiou]th)", "DH"), ("th", "TH"),
          ("ti(?=on|ou|a[ln])(?<!sti)", "SH"), ("t(?=ur[ea])", "CH"), ("t(?=ual|uat)", "CH"), ("(?<=s)t(?=le|en$)", ""),
          ("tt", "T"), ("tz", "T S"), ("t", "T")),
    "u": (("(?<=[aeio])u(?=x)", ""), ("u(?=y)", ""), ("(?<=g)u(?=a)", "W"), ("ur(?=[^aeiouy]|$)", "ER"), ("ure$", "ER"),
          ("(?<=[lrjs])ue$", "UW"), ("ue(?=s?$)", "Y UW"), ("ui(?=t|s)", "UW"),
          ("(?<=[jlrs])u(?=[^aeiouy][aeiouy])", "UW"), ("(?<=[dnt])u(?=[^aeiouy]e)", "UW"),
          ("u(?=[^aeiouyx][aeiouy])(?<=[bcfghkmpv]u)", "Y UW"), ("^u(?=n[^i])", "AH"),
          ("^u(?=[^aeiouy][aeiouy])", "Y UW"), ("(?<=[dntsz])u(?=[^aeiouy][aeiouy])", "UW"), ("u$", "UW"),
          ("u(?=ll|sh)(?<=[bfp]u)", "UH"), ("u", "AH")),
    "v": (("v", "V"),),
    "w": (("^wr", "R"), ("^who", "HH UW"), ("wh", "W"), ("w(?=$|[^aeiouyh])", ""), ("w", "W")),
    "x": (("^x", "Z"), ("x(?=c[eiy])", "K"), ("(?<=^e)x(?=[aeiou])", "G Z"), ("x", "K S")),
    "y": (("^y(?=[aeiou])", "Y"), ("(?<=^[^aeiou])y$", "AY"), ("(?<=^[^aeiou][^aeiou])y$", "AY"), ("(?<=f)y$", "AY"),
          ("y$", "IY"), ("ys$", "IY Z"), (f"y(?={_SILENT_E})", "AY"), ("yr", "IH R"), ("y(?=[aeou])", "Y"),
          ("y", "IH")),
    "z": (("zz", "Z"), ("z", "Z")),
}  # fmt: skip
_VOWELS = {"AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"}
_STRESSED_BEFORE = re.compile(  # the stress is on the last vowel before such an ending
    "(?:[cst]i(?:on|ous|al|an|a|um)(?:s|al|ally|ed|ing)?|ics?|ical(?:ly)?|i(?:ty|ties)|ia[nl]?s?|ious(?:ly)?|graphy|"
    "logy)$"
)
_ENDINGS = re.compile("(?:ee|eer|ette|esque)s?$")  # which are stressed themselves
_PREFIX = re.compile("(?:a|be|com|con|de|dis|en|ex|in|per|pre|pro|re|sub|un)(?=[^aeiouy]+[aeiouy]+[^aeiouy])")
_REDUCED = {"AE": "AH", "AA": "AH"}


def pronounce(word: str) -> tuple[str, ...]:
    """ARPAbet of a word of the letters a to z, vowels with their stress: ("K", "AE1", "T"). Empty where it has none."""
    phones, at = [], 0
    while at < len(word):
        for pattern, sounds in _rules_of(word[at]):
            match = pattern.match(word, at)
            if match:
                phones += sounds
                at = match.end()
                break
        else:
            at += 1
    return tuple(_stressed(word, phones))


@functools.cache
def _rules_of(letter):
    return [(re.compile(pattern), phones.split()) for pattern, phones in _RULES.get(letter, ())]


def _stressed(word, phones):
    places = [i for i, phone in enumerate(phones) if phone in _VOWELS]
    if not places:
        return phones
    main = places[_main(word, len(places))]
    stressed = list(phones)
    for i in places:
        stressed[i] = f"{phones[i]}1" if i == main else f"{_unstressed(phones, i)}0"
    return stressed


def _unstressed(phones, i):
    """What becomes of a vowel without stress: a schwa of an open one, unless two consonants or an R come after it."""
    after = phones[i + 1 : i + 3]
    closed = len(after) == 2 and not _VOWELS & set(after) or after[:1] == ["R"]
    return phones[i] if closed else _REDUCED.get(phones[i], phones[i])


def _main(word, n):
    """Which of a word's n vowels has the stress."""
    if n == 1:
        return 0
    if _ENDINGS.search(word):
        return n - 1
    ending = _STRESSED_BEFORE.search(word)
    if ending:
        after = len(re.findall("[aeiouy]+", ending[0].replace("tio", "o").replace("cio", "o").replace("sio", "o")))
        return max(0, n - 1 - max(1, after))
    if n == 2:
        return 1 if _PREFIX.match(word) else 0
    return n - 3 if not _PREFIX.match(word) or n > 3 else 1
