"""Where the resources are."""

API = "/client/v4"
ACCOUNT = f"{API}/accounts/{{account_id}}"
INDEXES = f"{ACCOUNT}/vectorize/v2/indexes"
INDEX = f"{INDEXES}/{{index_name}}"
AI = f"{ACCOUNT}/ai"
