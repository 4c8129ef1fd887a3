"""What the houses of these tests are set to."""

import base64

SETTINGS = {
    "webhook_hosts": "hooks.example.com,::1",
    "max_body_bytes": 300_000,
    "max_image_bytes": 100_000,
    "secret_key": "a key for tests",
    "webhook_secret": f"whsec_{base64.b64encode(bytes(32)).decode()}",
}
