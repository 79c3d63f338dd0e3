"""What a converter refuses."""
from ..errors import BadFile


class Refused(BadFile):
    """Wrong use or input; the text is the one line the user sees."""
