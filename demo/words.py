"""What the demonstration prints."""

from demo.content import SHARED

NEWEST = (
    """python3 -c 'import json, sys; print(max(json.load(sys.stdin)["items"], """
    """key=lambda one: one["created_at"])["id"])'"""
)


def instructions(service: str, registry: str, token: str) -> str:
    """Give the token and five lines to paste, each good by itself in the order printed."""
    curl = f"curl -sSw '\\n' -H 'Authorization: Bearer {token}'"
    base = f"{service}/v1/registries"
    repository, tag, sibling = SHARED
    tags = f"{base}/default/repositories/{repository}/-/tags"
    deletions = f"{base}/default/deletions"
    steps = {
        "The registries": f"{curl} {base}",
        "Its repositories": f"{curl} {base}/default/repositories",
        "The tags of one, in detail": f"{curl} '{tags}?detail=true'",
        f"Delete {tag}: {sibling} is the same manifest, and stays": (
            f"{curl} -X DELETE {tags}/{tag} && {curl} {tags}/{sibling}"
        ),
        "And restore it": (
            f"{curl} -X POST {deletions}/\"$({curl} '{deletions}?n=1000' | {NEWEST})\"/restore"
        ),
    }
    lines = [f"# {title}\n{line}" for title, line in steps.items()]
    head = f"""
A registry with a few images:  {registry}
The service in front of it:    {service}/docs
The page for people:           {service}/
What you change is gone when this stops, by Ctrl-C. A token that may do everything:

{token}
"""
    return "\n\n".join([head, *lines]) + "\n"
