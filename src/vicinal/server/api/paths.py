"""Paths of the resources, and the parameters of a query string."""

from urllib.parse import parse_qsl

from vicinal.errors import BadParameter

API = "/client/v4"
ACCOUNT = f"{API}/accounts/{{account_id}}"
INDEXES = f"{ACCOUNT}/vectorize/v2/indexes"
INDEX = f"{INDEXES}/{{index_name}}"
AI = f"{ACCOUNT}/ai"

_PARAMETERS_MAX = 32


def query_parameters(query_string: bytes) -> dict[str, str]:
    """Return the parameters of a query string; of one given twice, the last.

    Raises:
        BadParameter: there are too many.
    """
    if not query_string:
        return {}
    try:
        pairs = parse_qsl(
            query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=_PARAMETERS_MAX
        )
    except ValueError as error:
        raise BadParameter(f"the query string cannot be read: {error}") from None
    return dict(pairs)
