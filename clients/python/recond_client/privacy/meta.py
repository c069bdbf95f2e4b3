"""De-identification of the attributes of images (MetaContainer)."""

from __future__ import annotations

from recond_client.errors import InputError
from recond_client.privacy.profile import REMOVED_UNKNOWN, Action, Area
from recond_client.privacy.record import Treatment
from recond_client.privacy.safe_xml import Element, escaped, parse


def deidentify_meta(xml: bytes, treatment: Treatment) -> bytes:
    """Take out of the attributes of an image all that the profile does not name.

    Parameters
    ----------
    xml
        ``<ismrmrdMeta>``; empty or only white space and NULs if there are no attributes.
    treatment
        Of the scan.

    Returns
    -------
    bytes
        UTF-8; empty where `xml` was.

    Raises
    ------
    InputError
        If it is not well-formed, or something else. What is in it is never shown.
    """
    if not xml.strip(b"\0 \t\r\n"):
        return b""
    document = parse(xml, "The attributes of an image")
    if document.root.name != "ismrmrdMeta":
        msg = "The attributes of an image have a root element that is not 'ismrmrdMeta'."
        raise InputError(msg, reason="META", field="attributes")
    if document.comments:
        treatment.note(Area.META, "(comments)", Action.REMOVE, count=document.comments)
    kept = "".join(_meta(element, treatment) for element in document.root.children)
    return f"<ismrmrdMeta>{kept}</ismrmrdMeta>".encode()


def _meta(element: Element, treatment: Treatment) -> str:
    name = element.child("name")
    values = [child.text for child in element.children if child.name == "value"]
    rule = treatment.profile.rule(Area.META, name) if element.name == "meta" and name != REMOVED_UNKNOWN else None
    kept = [new for value in values if rule is not None and (new := rule.keep(value)) is not None]
    if rule is None or len(kept) < len(values):
        place = rule.place if rule is not None else REMOVED_UNKNOWN
        treatment.note(Area.META, place, Action.REMOVE, "=".join((name, *values)))
        return ""
    inside = "".join(f"<value>{escaped(value)}</value>" for value in kept)
    return f"<meta><name>{escaped(name)}</name>{inside}</meta>"
