"""Amazon Reviews 2023 (Hou et al. 2024, arXiv:2403.03952): corpus names, where the files are, columns -> interactions.

Three sources give the same plain files: a local folder laid out as the official downloads are, the official site, and
the hub at a pinned revision. All of them go through the readers below.
"""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from data_prep.columns import codes_of, csv_columns, csv_rows, json_columns
from data_prep.fields import ID, TEXT, TIME, Field
from data_prep.files import Malformed, records
from data_prep.filtering import Interactions, Sequences

logger = logging.getLogger(__name__)

Layout = Literal["rating_only", "last_out_w_his", "sequences", "raw"]
Origin = Literal["auto", "local", "official", "hub"]

CATEGORIES = (
    "All_Beauty", "Amazon_Fashion", "Appliances", "Arts_Crafts_and_Sewing", "Automotive", "Baby_Products",
    "Beauty_and_Personal_Care", "Books", "CDs_and_Vinyl", "Cell_Phones_and_Accessories", "Clothing_Shoes_and_Jewelry",
    "Digital_Music", "Electronics", "Gift_Cards", "Grocery_and_Gourmet_Food", "Handmade_Products",
    "Health_and_Household", "Health_and_Personal_Care", "Home_and_Kitchen", "Industrial_and_Scientific",
    "Kindle_Store", "Magazine_Subscriptions", "Movies_and_TV", "Musical_Instruments", "Office_Products",
    "Patio_Lawn_and_Garden", "Pet_Supplies", "Software", "Sports_and_Outdoors", "Subscription_Boxes",
    "Tools_and_Home_Improvement", "Toys_and_Games", "Video_Games", "Unknown",
)  # fmt: skip
# 5-cores of Amazon 2014: local sequence files only.
ONLY_LOCAL = ("Beauty_2014", "Sports_2014", "Toys_2014")
# Written by data_prep/planted_files.py in the schema of a category.
GENERATED = ("Planted", "Planted_Noise")

OFFICIAL = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023"
HUB = "hf://datasets/McAuley-Lab/Amazon-Reviews-2023@2b6d039ed471f2ba5fd2acb718bf33b0a7e5598e"
# The official filtered files are 5-cores: a smaller core must start from the raw reviews.
OFFICIAL_K = 5

# Where the test part of the official split by time begins, in milliseconds.
TEST_BEGINS = 1_658_002_729_837

PARTS = ("train", "valid", "test")
# Each layout's files in an official folder, in the order in which they are looked for.
FILES: dict[Layout, tuple[str, ...]] = {
    "rating_only": ("5core/rating_only/{}.csv",),
    "last_out_w_his": tuple(f"5core/last_out_w_his/{{}}.{part}.csv" for part in PARTS),
    "sequences": ("sequences/{}.tsv",),
    "raw": ("raw/review_categories/{}.jsonl",),
}
METADATA = "raw/meta_categories/meta_{}.jsonl"
SEQUENCE_METADATA = "sequences/{}.items.jsonl"


@dataclass(frozen=True)
class Source:
    """Where one corpus's files are.

    Attributes:
        origin: `local`, `official`, `hub` or `generated`.
        layout: which of the layouts the interactions come in.
        files: name inside an official folder -> path on this machine.
        metadata: name and path of the item metadata, or nothing.
    """

    origin: str
    layout: Layout
    files: dict[str, Path]
    metadata: dict[str, Path] = field(default_factory=dict)


def names() -> list[str]:
    """All corpus names: the category in lower case."""
    return sorted(_by_name())


def category_of(name: str) -> str:
    """The category's official spelling.

    Raises:
        ValueError: no such corpus; the sentence suggests the nearest name.
    """
    categories = _by_name()
    if name not in categories:
        near = difflib.get_close_matches(name.lower(), categories, n=1, cutoff=0.0)[0]
        raise ValueError(f"no corpus {name!r}; did you mean {near!r}? `python -m data_prep --list` prints all names")
    return categories[name]


def find_local(category: str, folder: Path, k: int) -> Source | None:
    """The corpus's files below `folder` (or `folder/amazon2023`), filtered files before raw ones; None without any."""
    for layout, patterns in FILES.items():
        # A sequence file is taken as it is; a filtered file can only be filtered further.
        if layout != "raw" and (k < OFFICIAL_K or (k > OFFICIAL_K and layout == "sequences")):
            continue
        files = {pattern.format(category): _existing(folder, pattern.format(category)) for pattern in patterns}
        found = {name: path for name, path in files.items() if path}
        if len(found) == len(files):
            return Source("local", layout, found, _local_metadata(category, folder))
        if found:
            missing = ", ".join(sorted(files.keys() - found.keys()))
            logger.warning("%s has %s and lacks %s; expected all of them", folder, ", ".join(sorted(found)), missing)
    return None


def remote_files(category: str, k: int) -> tuple[Layout, list[str], str]:
    """Layout, interaction files and metadata file to download for a category.

    Raises:
        ValueError: the corpus is none of the Amazon-2023 categories.
    """
    if category not in CATEGORIES:
        where = FILES["sequences"][0].format(category)
        raise ValueError(
            f"{category.lower()} has no Amazon-2023 download; set GRBENCH_DATA to a folder that holds {where}[.gz]"
        )
    layout: Layout = "rating_only" if k >= OFFICIAL_K else "raw"
    return layout, [pattern.format(category) for pattern in FILES[layout]], METADATA.format(category)


def read_interactions(source: Source) -> Interactions:
    """Users, items and times of a source that has times (every layout but `sequences`), in file order.

    The three files of `last_out_w_his` follow one another: each user's rows are then in the order of `rating_only`.
    A malformed line of raw reviews is left out and counted; a malformed row of the other layouts is an error.

    Raises:
        ValueError: what `csv_columns` and `json_columns` say of a damaged file; times of several units.
    """
    malformed = [Malformed(path) for path in source.files.values()]
    read = _raw_reviews if source.layout == "raw" else lambda counts: csv_columns(counts.path, COLUMNS)
    table = pa.concat_tables(map(read, malformed)).unify_dictionaries()
    user, user_ids = codes_of(table["user_id"])
    item, item_ids = codes_of(table["parent_asin"])
    timestamp = table["timestamp"].to_numpy()
    _check_unit(source, timestamp)
    return Interactions(user, item, timestamp, user_ids, item_ids, sum(counts.bad for counts in malformed))


def check_histories(source: Source, sequences: Sequences) -> None:
    """Compare the sequences with those that the official test rows spell out (`history` and the item after it).

    Raises:
        ValueError: they differ; the sentence names the first user.
    """
    path = list(source.files.values())[PARTS.index("test")]
    columns = ("user_id", "parent_asin", "history")
    rows = csv_columns(path, dict.fromkeys(columns, TEXT)).sort_by("user_id")
    official = pc.binary_join_element_wise(rows["history"], rows["parent_asin"], " ").combine_chunks()
    items = sequences.item_ids.take(pa.array(sequences.flat - 1))
    ours = pc.binary_join(pa.ListArray.from_arrays(pa.array(sequences.offsets, pa.int32()), items), " ")
    if rows["user_id"].combine_chunks() != sequences.user_ids:
        raise ValueError(f"{path} has {len(rows):,} users; expected the {len(ours):,} of the train and valid files")
    differs = pc.index(pc.not_equal(ours, official), True).as_py()
    if differs >= 0:
        raise ValueError(
            f"{path}: the history of user {sequences.user_ids[differs]} is {official[differs]!s:.500}; "
            f"expected the order of the rows, {ours[differs]!s:.500}"
        )


COLUMNS: dict[str, Field] = {"user_id": ID, "parent_asin": ID, "timestamp": TIME}
# A time of seconds is below the first, of milliseconds (from 1973) below the second, of microseconds below the third.
UNITS = np.array([10**11, 10**14, 10**17])
MILLISECONDS = 1


def _raw_reviews(malformed: Malformed) -> pa.Table:
    table = pa.concat_tables(json_columns(malformed.path, COLUMNS, malformed))
    if malformed.bad:
        logger.warning("%s and left out; %s", malformed, malformed.why)
    return table


def _check_unit(source: Source, times: Int64[np.ndarray, "M"]) -> None:
    """Times of one unit are in order whichever it is; of several units they are not."""
    lowest, highest = np.searchsorted(UNITS, [times.min(), times.max()], side="right")
    if lowest != highest:
        units = np.searchsorted(UNITS, times, side="right")
        odd = int(times[units != units[0]][0])
        raise ValueError(
            f"{_place(source, odd)}: timestamp is {odd}, where the first is {times[0]}; expected all of one unit, "
            "milliseconds since 1970"
        )
    if lowest != MILLISECONDS:
        logger.warning("%s: timestamps like %d are no milliseconds; their order is used all the same",
                       next(iter(source.files.values())), times[0])  # fmt: skip


def _place(source: Source, time: int) -> str:
    """File and line of the first row with a time."""
    for path in source.files.values():
        if source.layout == "raw":
            found = ((number, record.get("timestamp")) for number, record in records(path, Malformed(path)))
        else:
            rows = csv_rows(path)
            column = next(rows)[1].index("timestamp")
            found = ((number, row[column]) for number, row in rows)
        for number, value in found:
            if str(value).strip() == str(time):
                return f"{path}, line {number}"
    return ", ".join(map(str, source.files.values()))


def _by_name() -> dict[str, str]:
    return {category.lower(): category for category in (*CATEGORIES, *ONLY_LOCAL, *GENERATED)}


def _local_metadata(category: str, folder: Path) -> dict[str, Path]:
    for pattern in (METADATA, SEQUENCE_METADATA):
        name = pattern.format(category)
        if path := _existing(folder, name):
            return {name: path}
    return {}


def _existing(folder: Path, name: str) -> Path | None:
    """The file `name`, plain or packed, in the folder itself, its `amazon2023/`, or their `benchmark/`."""
    places = [folder / below for below in ("amazon2023", ".", "amazon2023/benchmark", "benchmark")]
    paths = [place / (name + suffix) for place in places for suffix in ("", ".gz")]
    return next((path for path in paths if path.is_file()), None)
