"""The web app: raters join, are calibrated and rate; the owner has an admin page."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Query, Request
from fastapi import Path as UrlPart
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp

from srgan_tf.mos import codebook
from srgan_tf.mos.database import Database, InvitationError, Rater
from srgan_tf.mos.design import SCORE_LABELS, draw
from srgan_tf.mos.security import Limits, SecureHeaders, Signer, client_address, secrets_equal
from srgan_tf.mos.study import Study

MAX_NICKNAME = 40
_HERE = Path(__file__).parent
_COOKIE_AGE = 180 * 24 * 3600  # seconds
_MAX_INVITATIONS_AT_ONCE = 500

Text = Annotated[str, Form(max_length=64)]
Token = Annotated[str, Form(pattern=r"^[0-9a-f]{32}$")]
Attempt = Annotated[int, Form(ge=0, le=1_000_000)]


@dataclass(frozen=True)
class _Site:
    """State that all requests share."""

    study: Study
    database: Database
    signer: Signer
    limits: Limits
    templates: Jinja2Templates

    def cookie(self, kind: str) -> str:
        # Browsers ignore the port, so studies on one host need cookies of different names.
        return f"{kind}-{self.study.design.id[:8]}"


def create_app(study: Study, database: Database) -> ASGIApp:
    """Create the app for a study; the caller closes the database."""
    templates = Jinja2Templates(_HERE / "templates")
    version = hashlib.sha256()
    for path in sorted((_HERE / "static").iterdir()):
        version.update(path.read_bytes())
    templates.env.globals |= {
        "design": study.design,
        "labels": SCORE_LABELS,
        "static_version": version.hexdigest()[:12],
    }
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    signer = Signer(study.private.signing_key)
    app.state.site = _Site(study, database, signer, Limits(), templates)
    app.mount("/static", _Static(directory=_HERE / "static"))
    app.include_router(router)
    app.add_exception_handler(StarletteHTTPException, _show_error)
    app.add_exception_handler(RequestValidationError, _show_error)
    app.add_exception_handler(Exception, _show_error)
    return SecureHeaders(app)  # outermost, as error pages need headers too


class _Static(StaticFiles):
    """Static files, cached for good: pages refer to them with a version."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def get_site(request: Request) -> _Site:
    """Return the app's state."""
    return request.app.state.site


Site = Annotated[_Site, Depends(get_site)]


def limit_visits(request: Request, site: Site) -> None:
    """Count a request. Raises HTTPException 429 above the limit."""
    site.limits.hit("visit", client_address(request))


def require_rater(request: Request, site: Site) -> Rater:
    """Return the rater of the browser's cookie, or redirect to the first page."""
    key = request.cookies.get(site.cookie("rater"), "")
    rater = site.database.rater(_hash_key(key)) if key else None
    if rater is None:
        raise HTTPException(HTTPStatus.SEE_OTHER, headers={"Location": "/"})
    site.limits.hit("rater", str(rater.id))
    return rater


def require_form(request: Request, site: Site, csrf: Text = "") -> str:
    """Return the visitor's id. Raises HTTPException 403 if the form was not made for them."""
    visitor = request.cookies.get(site.cookie("visitor"), "")
    if not visitor or not site.signer.check(csrf, "form", visitor):
        raise HTTPException(
            403,
            "This page has expired, or your browser refuses cookies. Reload it.",
        )
    return visitor


def is_admin(request: Request, site: Site) -> bool:
    """Return whether the browser has logged in with the admin token."""
    visitor = request.cookies.get(site.cookie("visitor"), "")
    return site.signer.check(request.cookies.get(site.cookie("admin"), ""), "admin", visitor)


def require_admin(request: Request, site: Site) -> None:
    """Redirect to the login unless the browser has logged in."""
    if not is_admin(request, site):
        raise HTTPException(HTTPStatus.SEE_OTHER, headers={"Location": "/admin"})


ARater = Annotated[Rater, Depends(require_rater)]
Visitor = Annotated[str, Depends(require_form)]
router = APIRouter(dependencies=[Depends(limit_visits)])


@router.get("/")
def start(
    request: Request, site: Site, invitation: Annotated[str, Query(max_length=64)] = ""
) -> Response:
    key = request.cookies.get(site.cookie("rater"), "")
    rater = site.database.rater(_hash_key(key)) if key else None
    if rater is not None:
        return _redirect(_next_page(site, rater))
    return _page(request, "join.html", invitation=invitation)


@router.post("/join")
def join(
    request: Request,
    site: Site,
    visitor: Visitor,
    nickname: Annotated[str, Form(max_length=200)] = "",
    invitation: Text = "",
    consent: Text = "",
) -> Response:
    nickname = " ".join("".join(c if c.isprintable() else " " for c in nickname).split())
    error = None
    if not 1 <= len(nickname) <= MAX_NICKNAME:
        error = f"Please give a nickname of 1 to {MAX_NICKNAME} characters."
    elif not consent:
        error = "Please read the text below and tick the box if you agree."
    # The same visitor gets the same key: a double click joins once.
    key = site.signer.sign("rater", visitor)
    if error is None:
        site.limits.check("guess", client_address(request))
        code = "".join(c for c in invitation.upper() if c.isalnum())
        design = site.study.design
        try:
            site.database.join(
                _hash_key(key),
                nickname,
                code if design.invitation_only else None,
                lambda counts: draw(design, counts, secrets.SystemRandom()),
            )
        except InvitationError as problem:
            site.limits.hit("guess", client_address(request))
            error = str(problem)
    if error is not None:
        response = _page(
            request, "join.html", invitation=invitation, nickname=nickname, error=error
        )
        response.status_code = 422
        return response
    response = _redirect("/welcome")
    _set_cookie(request, response, "rater", key)
    return response


@router.get("/r/{key}")
def resume(
    request: Request, site: Site, key: Annotated[str, UrlPart(pattern=r"^[\w-]{43}$")]
) -> Response:
    """Open a rater's personal link."""
    site.limits.check("guess", client_address(request))
    if site.database.rater(_hash_key(key)) is None:
        site.limits.hit("guess", client_address(request))
        raise HTTPException(404, "This personal link is not valid. Is it complete?")
    response = _redirect("/")
    _set_cookie(request, response, "rater", key)
    return response


@router.get("/welcome")
def welcome(request: Request, site: Site, rater: ARater) -> Response:
    return _page(request, "welcome.html", rater=rater, next_page=_next_page(site, rater))


@router.get("/calibration")
def calibration(request: Request, site: Site, rater: ARater) -> Response:
    images = site.study.design.calibration
    if rater.calibrated >= len(images):
        return _redirect(_next_page(site, rater))
    following = images[rater.calibrated + 1 : rater.calibrated + 2]
    return _page(
        request,
        "calibration.html",
        number=rater.calibrated,
        image=images[rater.calibrated],
        preload=[
            f"/calibration/{name}" for image in following for name in (image.bad, image.excellent)
        ],
    )


@router.post("/calibration")
def calibrated(
    site: Site, visitor: Visitor, rater: ARater, number: Annotated[int, Form(ge=0, le=1_000_000)]
) -> Response:
    if number < len(site.study.design.calibration):
        site.database.calibrate(rater.id, number)
    return _redirect("/calibration")


@router.get("/calibration/{name}")
def calibration_image(site: Site, rater: ARater, name: str) -> Response:
    images = site.study.design.calibration
    if not any(name in (image.bad, image.excellent) for image in images):
        raise HTTPException(404, "There is no such image.")
    return _image(site.study.image(name))


@router.get("/rate")
def rate(request: Request, site: Site, rater: ARater) -> Response:
    trial = site.database.trial(rater.id)
    if trial is None or rater.calibrated < len(site.study.design.calibration):
        return _redirect(_next_page(site, rater))
    version = next(v for v in site.study.design.versions if v.id == trial.version)
    preload = [f"/images/{trial.next}"] if trial.next else []
    return _page(request, "rate.html", trial=trial, version=version, preload=preload)


@router.post("/rate")
def rated(
    site: Site,
    visitor: Visitor,
    rater: ARater,
    trial: Token,
    attempt: Attempt,
    score: Annotated[int, Form(ge=1, le=5)],
    milliseconds: Annotated[int | None, Form(ge=0, le=2**31 - 1)] = None,
    pixel_ratio: Annotated[float | None, Form(gt=0, le=100, allow_inf_nan=False)] = None,
) -> Response:
    if rater.calibrated >= len(site.study.design.calibration):
        site.database.rate(rater.id, trial, attempt, score, milliseconds, pixel_ratio)
    return _redirect("/rate")


@router.post("/undo")
def undo(site: Site, visitor: Visitor, rater: ARater, trial: Token, attempt: Attempt) -> Response:
    site.database.undo(rater.id, trial, attempt)
    return _redirect("/rate")


@router.get("/images/{token}")
def image(
    site: Site, rater: ARater, token: Annotated[str, UrlPart(pattern=r"^[0-9a-f]{32}$")]
) -> Response:
    version = site.database.version(rater.id, token)
    if version is None:
        raise HTTPException(404, "There is no such image.")
    return _image(site.study.image(version))


@router.get("/pause")
def pause(request: Request, site: Site, rater: ARater) -> Response:
    trial = site.database.trial(rater.id)
    return _page(request, "pause.html", rater=rater, trial=trial, next_page=_next_page(site, rater))


@router.get("/done")
def done(request: Request, site: Site, rater: ARater) -> Response:
    if _next_page(site, rater) != "/done":
        return _redirect("/")
    return _page(request, "done.html", rater=rater, undoable=site.database.last(rater.id))


@router.post("/leave")
def leave(site: Site, visitor: Visitor) -> Response:
    """Forget the rater on this device."""
    response = _redirect("/")
    for kind in ("rater", "visitor"):
        response.delete_cookie(site.cookie(kind))
    return response


@router.get("/admin")
def admin(request: Request, site: Site) -> Response:
    if not is_admin(request, site):
        return _page(request, "admin_login.html")
    progress = site.database.progress()
    return _page(
        request,
        "admin.html",
        progress=progress,
        rated=sum(rater.rated for rater in progress),
        finished=sum(rater.rated == rater.total for rater in progress),
        invitations=site.database.invitations(),
        most_invitations=_MAX_INVITATIONS_AT_ONCE,
    )


@router.post("/admin/login")
def admin_login(request: Request, site: Site, visitor: Visitor, token: Text = "") -> Response:
    site.limits.check("guess", client_address(request))
    if not secrets_equal(token.strip(), site.study.private.admin_token):
        site.limits.hit("guess", client_address(request))
        response = _page(request, "admin_login.html", error="This is not the study's admin token.")
        response.status_code = 403
        return response
    response = _redirect("/admin")
    _set_cookie(request, response, "admin", site.signer.sign("admin", visitor), lasting=False)
    return response


@router.post("/admin/logout")
def admin_logout(site: Site, visitor: Visitor) -> Response:
    response = _redirect("/admin")
    response.delete_cookie(site.cookie("admin"))
    return response


@router.post("/admin/invitations", dependencies=[Depends(require_admin)])
def invite(
    site: Site, visitor: Visitor, number: Annotated[int, Form(ge=1, le=_MAX_INVITATIONS_AT_ONCE)]
) -> Response:
    try:
        site.database.invite(number)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    return _redirect("/admin#invitations")


@router.get("/admin/{name}", dependencies=[Depends(require_admin)])
def download(site: Site, name: str) -> Response:
    if name == "codebook.md":
        content, kind = codebook.to_markdown(), "text/markdown"
    elif name in ("ratings.csv", "ratings.json"):
        rows = codebook.records(site.study.design, site.database.ratings())
        if name == "ratings.csv":
            content, kind = codebook.to_csv(rows), "text/csv"
        else:
            content, kind = codebook.to_json(site.study.design, rows), "application/json"
    else:
        raise HTTPException(404, "There is no such page.")
    disposition = f'attachment; filename="{name}"'
    return Response(content, media_type=kind, headers={"Content-Disposition": disposition})


def _hash_key(key: str) -> str:
    """Hash a personal link's key, so that nobody can rate with the keys in the database."""
    return hashlib.sha256(key.encode()).hexdigest()


def _next_page(site: _Site, rater: Rater) -> str:
    if rater.calibrated < len(site.study.design.calibration):
        return "/calibration"
    return "/rate" if site.database.trial(rater.id) else "/done"


def _redirect(path: str) -> RedirectResponse:
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)


def _page(request: Request, template: str, **context: Any) -> Response:
    """Render a page whose forms are valid for this visitor only."""
    site = get_site(request)
    visitor = request.cookies.get(site.cookie("visitor"))
    is_new = visitor is None
    visitor = visitor or secrets.token_urlsafe(32)
    context["csrf"] = site.signer.sign("form", visitor)
    if "rater" in context:
        key = request.cookies[site.cookie("rater")]
        context["link"] = str(request.url_for("resume", key=key))
    context["home"] = str(request.url_for("start"))
    response = site.templates.TemplateResponse(request, template, context)
    if is_new:
        _set_cookie(request, response, "visitor", visitor)
    return response


def _set_cookie(
    request: Request, response: Response, kind: str, value: str, lasting: bool = True
) -> None:
    response.set_cookie(
        get_site(request).cookie(kind),
        value,
        max_age=_COOKIE_AGE if lasting else None,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )


def _image(path: Path) -> Response:
    """Return an image without ETag or date, which would reveal that raters see the same file."""
    return Response(
        path.read_bytes(),
        media_type="image/png",
        headers={"Cache-Control": "private, max-age=86400, immutable"},
    )


def _show_error(request: Request, error: Exception) -> Response:
    headers = None
    if isinstance(error, StarletteHTTPException):
        status, message, headers = error.status_code, error.detail, error.headers
        if 300 <= status < 400:
            return Response(status_code=status, headers=headers)
    elif isinstance(error, RequestValidationError):
        fields = {str(problem["loc"][-1]) for problem in error.errors()}
        status, message = 422, f"Invalid request: {', '.join(sorted(fields))}."
    else:
        status, message = 500, "Something went wrong here. Your ratings so far are safe."
    response = get_site(request).templates.TemplateResponse(
        request,
        "error.html",
        {"title": HTTPStatus(status).phrase, "message": message},
        status_code=status,
        headers=headers,
    )
    return response
