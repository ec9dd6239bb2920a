"""Which requests may act, and where a sign-in may lead."""

import pytest

from app.domain.errors import Forbidden
from app.web.guard import check_origin, is_name_of_this_machine
from app.web.signing_in import local

HOST = {"host": "127.0.0.1:8321"}


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:8321"},
        {"origin": "http://127.0.0.1:8321"},
    ],
)
def test_a_form_of_our_own_page_passes(headers):
    check_origin({**HOST, **headers}, "http")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:8321"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1:8321"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://evil.example"},
    ],
)
def test_a_form_from_elsewhere_is_refused(headers):
    with pytest.raises(Forbidden):
        check_origin({**HOST, **headers}, "http")


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8321", "127.0.0.1:8321", "[::1]:8321", "10.0.0.7", "api:8321"]
)
def test_names_and_addresses_of_this_machine_are_known(host):
    assert is_name_of_this_machine(host)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8321", "127.0.0.1.nip.io"])
def test_a_public_domain_is_no_name_of_this_machine(host):
    assert not is_name_of_this_machine(host)


@pytest.mark.parametrize("address", ["/", "/models/digits", "/models/a%20b?outcome=skip"])
def test_a_sign_in_leads_back_to_a_page_of_ours(address):
    assert local(address) == address


@pytest.mark.parametrize(
    "address",
    ["//evil.example", "/\\evil.example", "https://evil.example", "evil", "", "/a\nb", "\\/x"],
)
def test_a_sign_in_never_leads_elsewhere(address):
    assert local(address) == "/"
