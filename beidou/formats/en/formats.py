from beidou.formats import *  # noqa: F403  Django looks for them under each language
