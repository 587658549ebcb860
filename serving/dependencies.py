"""What routes depend on: the app's state, and the key a request carries."""

from typing import Annotated

from fastapi import Depends, Request

from serving.answering import Serving
from serving.errors import ApiError
from serving.keys import Key


def get_serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


ServingDep = Annotated[Serving, Depends(get_serving)]


def known_key(request: Request, serving: ServingDep) -> Key:
    """The key a request carries.

    Raises:
        ApiError: 401, there is none or it is unknown.
    """
    scheme, _, presented = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not presented:
        message = "no key given; send the header 'Authorization: Bearer <key>' with a key of this platform"
        raise ApiError(401, message, kind="authentication_error", code="missing_api_key")
    found = serving.deployments.find_key(presented.strip())
    if found is None:
        message = "this key is not known; it was revoked, or not copied whole; ask an administrator for one"
        raise ApiError(401, message, kind="authentication_error", code="invalid_api_key")
    return found


KeyDep = Annotated[Key, Depends(known_key)]


def admitted_key(key: KeyDep, serving: ServingDep) -> Key:
    """The same where it may ask for an answer now; counts as a request.

    Raises:
        ApiError: 429, it is over its limit.
    """
    serving.limiter.admit(key)
    return key


AdmittedKeyDep = Annotated[Key, Depends(admitted_key)]
