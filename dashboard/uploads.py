"""Files for clean jobs: send them, choose among them, delete them."""

from collections.abc import Sequence

import streamlit as st

from dashboard import formats
from dashboard.client import ClientError
from dashboard.login import client
from dashboard.schemas import Upload
from dashboard.ui import errors_shown, flash

LARGEST_MEGABYTES = 2_000  # what a browser sends is held in this process's memory; larger files go over HTTP


def upload_section() -> None:
    """A place to drop files, and the list of those that are there."""
    with st.form("upload", clear_on_submit=True, border=False):
        files = st.file_uploader(
            "Files to read",
            accept_multiple_files=True,
            max_upload_size=LARGEST_MEGABYTES,
            help="Text, HTML, PDF, code, JSON Lines, CSV, Parquet, and zip, tar, gz or zst of them",
        )
        sent = st.form_submit_button("Upload", icon=":material/upload:")
    with errors_shown():
        if sent and files:
            for file in files:
                _send(file)
            flash(f"{len(files)} file{'s' if len(files) > 1 else ''} uploaded")
            st.rerun()
        _listed(client().uploads())


def _send(file: st.runtime.uploaded_file_manager.UploadedFile) -> None:
    """Goes on where an earlier attempt with the same file broke off."""
    begun = next((one for one in client().uploads() if _is_rest_of(one, file.name, file.size)), None)
    bar = st.progress(0.0, text=file.name)
    steps = client().resume_upload(begun, file) if begun else client().upload(file.name, file.size, file)
    for upload in steps:
        bar.progress(upload.received / upload.bytes, text=f"{file.name}: {formats.size(upload.received)}")


def _is_rest_of(upload: Upload, name: str, size: int) -> bool:
    return not upload.whole and (upload.name, upload.bytes) == (name, size)


def _listed(uploads: Sequence[Upload]) -> None:
    for upload in uploads:
        with st.container(horizontal=True, vertical_alignment="center"):
            state = "" if upload.whole else f" · {formats.percent(upload.received / upload.bytes)} received"
            st.markdown(f"**{upload.name}** · {formats.size(upload.bytes)}{state} · {formats.ago(upload.created)}")
            st.space("stretch")
            if st.button("Delete", key=f"delete-{upload.id}", icon=":material/delete:", type="tertiary"):
                client().delete_upload(upload.id)
                flash(f"{upload.name} deleted")
                st.rerun()


def choose_uploads(key: str) -> list[str]:
    """Which of the uploads that are whole a job is to read; their ids."""
    try:
        whole = [upload for upload in client().uploads() if upload.whole]
    except ClientError as error:
        st.error(str(error), icon=":material/error:")
        return []
    names = {
        upload.id: f"{upload.name} · {formats.size(upload.bytes)} · {formats.ago(upload.created)}" for upload in whole
    }
    return st.multiselect("Uploads", list(names), format_func=names.__getitem__, key=key)
