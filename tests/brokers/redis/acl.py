"""The ACL users of Redis that the documents name."""

from tests.support.snippets import blocks

PASSWORD = "PASSWORD"


def documented(label: str) -> list[str]:
    """The rules of one, with its password and without its name."""
    (block,) = blocks(label)
    words = block.text.replace("\\\n", " ").replace("'", "").split()
    return words[words.index("SETUSER") + 2 :]


NODE_RULES = documented("acl-node")
PUBLISHER_RULES = documented("acl-publisher")
ACL = " ".join(rule for rule in NODE_RULES if rule not in {"on", f">{PASSWORD}"})
"""The rights of a node's user."""
