"""Forms of words: English plurals, Korean particles."""

from collections.abc import Mapping

# Particle as templates write it -> its form after a consonant, after a vowel.
_PARTICLES = {
    "은": ("은", "는"),
    "이": ("이", "가"),
    "을": ("을", "를"),
    "과": ("과", "와"),
    "이며": ("이며", "며"),
    "이었": ("이었", "였"),
    "이라고": ("이라고", "라고"),
    "이라는": ("이라는", "라는"),
}
_RIEUL = 8  # number of the final consonant after which 으로 is shortened like after a vowel
_DIGIT_FINALS = (21, 8, 0, 16, 0, 0, 1, 8, 8, 0)  # as read aloud: 영 일 이 삼 사 오 육 칠 팔 구


def plural(noun: str, irregular: Mapping[str, str]) -> str:
    """The English plural of ``noun``."""
    if noun in irregular:
        return irregular[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s")


def with_particle(word: str, particle: str) -> str:
    """A Korean word with the form of ``particle`` that its last sound asks for.

    Args:
        word: A word that ends in a Hangul syllable or a digit.
        particle: The form after a consonant: ``은``, ``이``, ``을``, ``과``, ``으로``, ``이며``,
            ``이었``, ``이라고`` or ``이라는``; anything else is appended unchanged.
    """
    last = word[-1]
    final = _DIGIT_FINALS[int(last)] if last.isdigit() else (ord(last) - 0xAC00) % 28
    if particle == "으로":
        return word + ("로" if final in (0, _RIEUL) else "으로")
    closed, opened = _PARTICLES.get(particle, (particle, particle))
    return word + (closed if final else opened)
