"""For a script on a developer's machine, which calls as the person who is logged in to gcloud.

    Function("search", auth=GcloudAuth).call("GET", "/")
"""

import subprocess

from shared.auth import IDTokenAuth

__all__ = ["GcloudAuth"]


class GcloudAuth(IDTokenAuth):
    """Attaches the person's ID token, as gcloud prints it.

    A person's token has gcloud's own audience, and can have no other. Cloud Run accepts it for
    every function that the person may call; IAP, and code that checks the audience, do not.
    """

    kind = "user"
    other_audience = "32555940559.apps.googleusercontent.com"
    remedy = "does `gcloud auth print-identity-token` print one? If not: gcloud auth login"
    rule = (
        "a person's token has gcloud's own audience, which Cloud Run accepts, and IAP does not;"
        " for the function's own one, impersonate a service account"
    )

    def _new(self) -> str:
        command = ["gcloud", "auth", "print-identity-token"]
        said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
        return said.stdout.strip()
