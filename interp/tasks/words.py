"""The word lists that prompts are made of, each with a fixed held-out part.

The held-out part is never used by the behaviour in question while the model organism is trained
(`data/models/organism/training`); its words do occur there among the random tokens of the induction stage, so
that every word has a trained embedding. Words are written without a leading space. Order is fixed: seeds
refer to it.
"""

from __future__ import annotations

from dataclasses import dataclass

from interp.tasks.prompt import Split


@dataclass(frozen=True)
class Words:
    """A list of words in two parts; `Words.of(split)` is the part that a split may use."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]

    def of(self, split: Split) -> tuple[str, ...]:
        """The training part, the held-out part, or both, in a fixed order."""
        return {"train": self.train, "held_out": self.held_out, "all": self.train + self.held_out}[split]


def _words(train: str, held_out: str) -> Words:
    return Words(tuple(train.split()), tuple(held_out.split()))


NAMES = _words(
    "Mary John Tom James Dan Martin Amy Scott Roy Alan Laura Mark Peter Paul Anna Sarah David Robert "
    "William Emma Alice Jack Henry "
    "George Charles Edward Frank Fred Harry Joe Kate Jane Helen Ruth Rose Grace Lucy Linda Susan Karen Lisa "
    "Nancy Betty Carol Diana "
    "Julia Maria Anne Ellen Eric Kevin Brian Steve Gary Larry Jerry Ray Carl Ralph Walter Arthur Albert "
    "Louis Philip Simon Adam "
    "Aaron Ben Sam Max Leo Luke Ryan Sean Kyle Jason Justin Tyler Brandon Matthew Andrew Daniel Michael "
    "Christopher Anthony Joseph "
    "Patrick Victor Oliver Oscar",
    "Richard Thomas Stephen Jessica Rachel Rebecca Amanda Crystal Vanessa Jonathan Gregory Katie Claire "
    "Bruce Dennis Keith Marcus Ian "
    "Neil Hugh",
)
PLACES = _words(
    "store garden school hospital office house station park library market museum hotel bank farm kitchen "
    "beach church",
    "restaurant theater airport castle",
)
OBJECTS = _words(
    "ring book basketball computer necklace drink snack pencil letter ticket camera flower hat map coin "
    "watch gift guitar",
    "lamp scarf basket cake drum",
)
# Things that can have a colour, for coloured objects and multiple choice. All start with a consonant.
THINGS = _words(
    "pencil notebook pen cup plate mug puzzle textbook bracelet bottle ball box bag chair knife spoon "
    "candle phone key coat shirt shoe "
    "brush clock",
    "leash necklace lighter bowl jug blanket",
)
COLORS = _words("red orange yellow green blue purple brown black white pink gray gold", "")
SURFACES = _words("table desk floor shelf", "counter")
# Singular and plural, for agreement; the held-out nouns show their number elsewhere in training ("I took the
# maps because I needed them").
NOUNS = _words(
    "key/keys cabinet/cabinets dog/dogs cat/cats boy/boys girl/girls teacher/teachers doctor/doctors "
    "farmer/farmers lawyer/lawyers "
    "student/students driver/drivers singer/singers writer/writers king/kings queen/queens bird/birds "
    "horse/horses table/tables "
    "car/cars ship/ships train/trains tree/trees door/doors window/windows picture/pictures letter/letters "
    "book/books song/songs "
    "river/rivers mountain/mountains bridge/bridges tower/towers wall/walls house/houses",
    "pilot/pilots artist/artists rabbit/rabbits bear/bears map/maps garden/gardens road/roads chair/chairs",
)
EVENTS = _words(
    "war voyage siege dispute revolt famine treaty project journey trial reign drought tour alliance "
    "expedition campaign program strike "
    "study festival",
    "conflict plague mission debate search",
)
# Country and capital; GPT-2 splits three of the capitals, so that `keep` drops them there.
CAPITALS = _words(
    "France/Paris Germany/Berlin Italy/Rome Spain/Madrid England/London Russia/Moscow China/Beijing "
    "Japan/Tokyo Egypt/Cairo "
    "Greece/Athens Ireland/Dublin Austria/Vienna Poland/Warsaw Portugal/Lisbon Sweden/Stockholm "
    "Denmark/Copenhagen Norway/Oslo "
    "Hungary/Budapest Turkey/Ankara Iran/Tehran Iraq/Baghdad Syria/Damascus Lebanon/Beirut Cuba/Havana "
    "Canada/Ottawa Kenya/Nairobi "
    "Afghanistan/Kabul Pakistan/Islamabad India/Delhi Thailand/Bangkok Ukraine/Kiev Belgium/Brussels",
    "Finland/Helsinki Korea/Seoul Libya/Tripoli Qatar/Doha Vietnam/Hanoi Netherlands/Amsterdam "
    "Australia/Canberra Peru/Lima",
)
# Used as keys and values of key-value lists only; the held-out words never stand in such a list in training.
ANIMALS = _words("lion tiger wolf fox cow sheep goat duck mouse snake", "frog monkey pig whale turtle")
FOODS = _words("bread milk sugar salt soup apple butter honey pepper corn", "cheese rice lemon tea onion")


def pairs(words: tuple[str, ...]) -> list[tuple[str, str]]:
    """The two halves of each `left/right` entry: `NOUNS` as (singular, plural), `CAPITALS` as (country,
    capital)."""
    return [(left, right) for left, right in (word.split("/") for word in words)]
