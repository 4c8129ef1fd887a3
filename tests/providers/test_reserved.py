"""What no provider's `extra` may set, in any spelling and at any depth, and what of it an operator can allow."""

import pytest

from providers.base import Capabilities, VideoRequest
from providers.catalogue import load_catalogue
from providers.checks import check
from providers.reserved import plain, refused

CAPABILITIES = Capabilities(load_catalogue("mock"), reserved=frozenset({"input.prompt", "labels.dailies", "prompt"}))


def pointers(extra, allowed=frozenset()):
    return [problem.pointer for problem in check(VideoRequest("fox", extra=extra), CAPABILITIES, allowed)]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "n",
            "N",
            "num_outputs",
            "numVideos",
            "number_of_videos",
            "num-images",
            "num_outputs_per_prompt",
            "n_variants",
        ),
        *("sampleCount", "candidate_count", "batch_size", "count"),
        *("duration", "durationSeconds", "video_duration", "max_duration", "seconds", "Seconds", "n_seconds", "length"),
        *("\u017feconds", "fp\u017f", "num_frames", "frames", "frame_rate", "frames_per_second", "fps", "target_fps"),
        *("resolution", "target_resolution", "resolution_name", "size", "video_size", "width", "image_height"),
        *("quality", "mode", "upscale", "upscale_factor", "enableUpscaling", "num_inference_steps", "steps"),
        *("generate_audio", "service_tier", "model", "models", "model_id", "fallbacks", "custom_llm_provider"),
        *("webhook", "webhook_url", "fal_webhook", "callbackUrl", "notify_hook", "notification_url", "pubsubTopic"),
        *(
            "storage_uri",
            "outputGcsUri",
            "output_gcs_uri",
            "gcs_uri",
            "api_base",
            "base_url",
            "extra_body",
            "sync_mode",
        ),
        *("previous_interaction_id", "previousJobId", "cached_content", "continuation_token", "environment"),
        *("input_references", "reference_videos", "referenceVideoUrls", "video_url", "video_urls", "multi_prompt"),
        *("voice_ids", "reference_images", "input[duration]", "parameters.sampleCount", "a/seconds"),
    ],
)
def test_what_costs_or_leads_elsewhere_is_refused_wherever_it_stands(name):
    assert refused(name)
    escaped = name.replace("/", "~1")
    assert pointers({name: 1}) == [f"/extra/{escaped}"]
    assert pointers({"a": [{"b": 1}, {"c": {name: {}}}]}) == [f"/extra/a/1/c/{escaped}"]


@pytest.mark.parametrize(
    "name",
    [
        *("enhance_prompt", "camera_fixed", "personGeneration", "style", "seedling", "cfg_scale", "guidance_scale"),
        *("safety_settings", "contentModeration", "loop", "tag", "input_reference", "negative", "watermark", "order"),
        *("prompt_optimizer", "nsfw", "motion", "thinking_level", "disable_safety_filter", "user_metadata", "title"),
        *("number", "modality", "frame_type", "seed_type", "audio", "video", "provider", "options", "parameters"),
    ],
)
def test_what_is_harmless_is_not(name):
    assert refused(name) is None
    assert pointers({name: 1, "a": [{name: {}}]}) == []


def test_it_says_why_and_what_to_use_instead():
    problems = check(VideoRequest("fox", extra={"durationSeconds": 60, "prompt": "x"}), CAPABILITIES)
    assert "parameters.duration" in problems[0].detail
    assert "operator" in problems[0].detail
    assert "operator" not in problems[1].detail


@pytest.mark.parametrize(
    ("extra", "pointer"),
    [
        ({"": {"seconds": 1}}, "/extra/"),
        ({"a": {"": 1}}, "/extra/a/"),
        ({"a": [{" b": 1}]}, "/extra/a/0/ b"),
        ({"b\u00a0": 1}, "/extra/b\u00a0"),
        ({"Prompt": "x"}, "/extra/Prompt"),
        ({"input": {"PROMPT": "x"}}, "/extra/input/PROMPT"),
        ({"input": [{"prompt": "x"}]}, "/extra/input"),
        ({"labels": None}, "/extra/labels"),
        ({"input.prompt": "x"}, "/extra/input.prompt"),
    ],
)
def test_ours_is_refused_in_every_spelling_and_so_is_what_has_no_name(extra, pointer):
    assert pointers(extra) == [pointer]


def test_an_operator_can_allow_a_name_and_what_is_in_it_is_looked_at_all_the_same():
    extra = {"input": {"FPS": 60, "num_frames": 9}}
    assert pointers(extra, frozenset({"fps"})) == ["/extra/input/num_frames"]
    assert pointers(extra, frozenset({"f-p-s", "numFrames"})) == []
    assert pointers({"size": {"width": 1}}, frozenset({"size"})) == ["/extra/size/width"]
    assert pointers({"prompt": "x"}, frozenset({"prompt"})) == ["/extra/prompt"]


def test_a_path_is_plain_part_by_part():
    assert plain("Response_Format.gcsUri") == "responseformat.gcsuri"


def test_a_long_name_is_looked_at_quickly():
    assert refused("x" * 16_000) is None
    assert refused("x" * 8_000 + "duration" + "y" * 8_000)
