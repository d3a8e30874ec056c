"""Names the default values that the option table, the configuration and the checks share."""

DEFAULT_OUTPUT_JSON = "image_locations.json"
DEFAULT_RECORDS = "image_records/"  # of a streaming run
DEFAULT_REMEMBER = "24h"
DEFAULT_QUIET_TIME = "10s"
DEFAULT_EXPECTED = 1_000_000  # images
COMPANIONS_ALL, COMPANIONS_NONE = "all", "none"  # values of --companions
LINKS_FOLLOW, LINKS_INSIDE = "follow", "inside"  # values of --links

# Values of --leak; DROP_FROM is followed by the name of a split.
LEAK_REPORT, LEAK_FAIL, DROP_FROM = "report", "fail", "drop_from="
MAX_SPLITS = 62  # a set of splits is one integer of 64 bits (`beam_dedup.core.leaks`)
