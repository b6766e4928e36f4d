"""`python -m bridge notify`: what it sends, what it says, its exit codes."""

from bridge import exits
from tests.bridge.kept import typed
from tests.bridge.webhooks import TOKEN, Webhook, need_apprise

need_apprise()


def test_taken() -> None:
    """Without a text it says that it is a test; nothing of the URL is printed but its scheme."""
    with Webhook() as webhook:
        done = typed("notify", notify__urls=webhook.url, notify__kinds="gap")

        assert (done.code, done.err) == (exits.DONE, "")
        assert done.out == "1 (json): taken\n"
        assert webhook.texts == ["notify a test: this is where alerts go"]
        assert webhook.requests[0]["title"].startswith("demo DEMO-001 on ")


def test_a_text() -> None:
    """A text of one's own is sent to all URLs; one that does not take it is named, with why."""
    with Webhook(500) as broken, Webhook() as webhook:
        done = typed("notify", "the *backup* failed", notify__urls=f"{broken.url},{webhook.url}")

        assert webhook.texts == ["notify the *backup* failed"]
    first, second = done.out.splitlines()
    assert done.code == exits.FAILED
    assert first.startswith("1 (json): NOT taken: ")
    assert second == "2 (json): taken"
    assert TOKEN not in done.out + done.err


def test_nobody_to_tell() -> None:
    """Without notify.urls it is an error of the settings."""
    done = typed("notify", "hello")

    assert done.code == exits.CONFIGURATION
    assert "notify.urls is empty" in done.err
