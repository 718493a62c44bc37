"""Masks and crops of images from a contrast of attention: maps by hand, a made network that looks at a colour."""

import numpy as np
import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

import interp
from interp.core.errors import InterpError
from interp.measures.image_regions import box_of, cropped, enlarged, image_maps, kept_regions, masked, sharpest_window
from interp.measures.relative_attention import CARVE, relative_attention

IMAGE, RED, GREEN, GENERAL, BEGIN = 9, 1, 2, 3, 4
MAP = np.array([
    [9, 9, 0, 0, 0],
    [0, 0, 0, 0, 8],
    [0, 7, 0, 0, 8],
    [0, 0, 6, 0, 8],
    [0, 0, 0, 0, 0]], dtype=float)


def regions(*names):
    places = {"top": [(0, 0), (0, 1)], "right": [(1, 4), (2, 4), (3, 4)], "7": [(2, 1)], "6": [(3, 2)]}
    mask = np.zeros(MAP.shape, bool)
    for name in names:
        for place in places[name]:
            mask[place] = True
    return mask


@pytest.mark.parametrize(("options", "kept"), [
    ({}, ("top", "right", "7")), ({"regions": 1}, ("right",)), ({"regions": 2}, ("right", "top")),
    ({"regions": 1, "by": "size"}, ("right",)), ({"regions": 3, "corners": True}, ("top", "right", "7", "6")),
    ({"regions": 2, "corners": True}, ("top", "right")),
    ({"regions": 1, "number": "at least"}, ("right",)),                     # ⌊0.28 · 4⌋ = 1
    ({"by": "large enough", "smallest": 0.3}, ("top", "right")),            # ⌊0.3 · 7⌋ = 2 patches
    ({"by": "large enough"}, ("top", "right", "7", "6")),
])
def test_regions_by_hand(options, kept):
    np.testing.assert_array_equal(kept_regions(MAP, **{"share": 0.28, **options}), regions(*kept))


def test_text_and_code_keep_other_numbers_of_regions():
    spots = np.zeros((9, 9))
    spots[::2, ::2] = np.arange(25, 50).reshape(5, 5)
    found = {number: kept_regions(spots, share=0.3, number=number).sum() for number in ("regions", "at least")}
    assert found == {"regions": 3, "at least": 7}                           # 25 regions, ⌊0.3 · 25⌋ of them


def test_by_size_and_by_attention_differ():
    found = np.array([[9.0, 0, 1, 1], [0, 0, 1, 1]])
    assert box_of(kept_regions(found, share=0.6, regions=1)) == (0, 0, 1, 1)
    assert box_of(kept_regions(found, share=0.6, regions=1, by="size")) == (0, 2, 2, 4)


def test_a_level_map_keeps_the_image():
    assert kept_regions(np.ones((3, 4))).all()
    assert box_of(kept_regions(np.ones((3, 4)))) == box_of(np.zeros((3, 4), bool)) == (0, 0, 3, 4)
    assert sharpest_window(MAP, (5, 5)) == (0, 0, 5, 5)


def test_boxes_by_hand():
    assert box_of(regions("right")) == (1, 4, 4, 5)
    assert box_of(regions("7", "right")) == (1, 1, 4, 5)


def by_loops(found, window, ratios):
    """The published search, written out."""
    scores = {}
    for ratio in ratios:
        rows, columns = (min(int(side * ratio + 1e-9), most) for side, most in zip(window, found.shape, strict=True))
        if (rows, columns) == found.shape:
            continue
        sums = {(i, j): found[i : i + rows, j : j + columns].sum() for j in range(found.shape[1] - columns + 1)
                for i in range(found.shape[0] - rows + 1)}
        i, j = max(sums, key=sums.get)
        beside = [sums[at] for at in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)) if at in sums]
        scores[i, j, i + rows, j + columns] = (sums[i, j] - np.mean(beside)) / (rows * columns)
    return max(scores, key=scores.get)


def test_windows():
    assert sharpest_window(MAP, (1, 2), ratios=(1,)) == (0, 0, 1, 2)
    assert sharpest_window(MAP, (3, 1), ratios=(1,)) == (1, 4, 4, 5)
    spot = np.zeros((12, 12))
    spot[4:8, 4:8] = 1
    assert sharpest_window(spot, (2, 2), ratios=(1, 1.5, 2)) == (4, 4, 6, 6)        # (4 − 3) / 4 = (16 − 12) / 16
    spot[5:7, 5:7] = 1.01
    assert sharpest_window(spot, (2, 2), ratios=(1, 1.5, 2)) == (4, 4, 8, 8)        # (4.04 − 4.02) / 4 < (16.04 − 12) / 16
    for seed in range(4):
        found = np.random.default_rng(seed).random((7, 9))
        assert sharpest_window(found, (2, 3), (1, 1.5, 2)) == by_loops(found, (2, 3), (1, 1.5, 2))
    with pytest.raises(InterpError, match="it has no patch"):
        sharpest_window(MAP, (0, 2))


def test_pixels_by_hand():
    pixels = torch.arange(64.0).reshape(1, 1, 8, 8)
    mask = np.zeros((4, 4), bool)
    mask[1, 2] = True
    kept = masked(pixels, mask, fill=-1)
    assert (kept >= 0).nonzero()[:, 2:].tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]
    assert torch.equal(masked(pixels, np.ones((4, 4), bool)), pixels)
    assert torch.equal(cropped(pixels, (0, 0, 4, 4), of=(4, 4)), pixels)
    flat = torch.zeros(1, 1, 8, 8)
    flat[..., 2:4, 4:8] = 5
    torch.testing.assert_close(cropped(flat, (1, 2, 2, 4), of=(4, 4)), torch.full((1, 1, 8, 8), 5.0))
    assert cropped(flat, (1, 2, 2, 4), of=(4, 4)).shape == (1, 1, 8, 8)
    assert cropped(flat, (1, 2, 2, 4), of=(4, 4), shape="kept").shape == (1, 1, 8, 16)
    np.testing.assert_allclose(enlarged(np.array([[0.0, 4.0]]), (1, 4)), [[0, 1, 3, 4]])


def seeing():
    """A network of one layer and two heads, four times four patches: head 0 of the last token looks at the patches of the
    colour that it names (score 4, else 0), at all alike if it names none; head 1 always at all alike."""
    vision = CLIPVisionConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8,
                              patch_size=2)
    text = LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                       num_key_value_heads=2, vocab_size=10, rope_parameters={"rope_theta": 1e9, "rope_type": "default"})
    network = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE,
                                                        image_seq_length=16, vision_feature_layer=-1)).eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        patches = network.model.vision_tower.embeddings.patch_embedding.weight
        for channel in (0, 1):                              # red: (1, −1, 0, 0, ...), green: (0, 0, 1, −1, ...)
            patches[2 * channel, channel], patches[2 * channel + 1, channel] = 0.25, -0.25
        network.model.multi_modal_projector.linear_1.weight[[0, 1], [0, 2]] = 1
        network.model.multi_modal_projector.linear_2.weight[[0, 1], [0, 1]] = 1
        layer = network.model.language_model.layers[0].self_attn
        tokens = network.model.language_model.embed_tokens.weight
        for color, (word, slow) in enumerate(((RED, 3), (GREEN, 7))):   # the slowest pair of the rotation, next to none
            tokens[word, 4 + color] = 1
            layer.q_proj.weight[slow, 4 + color] = 1                    # tokens and patches have length 4 behind the norm
            layer.k_proj.weight[slow, color] = 4 * np.sqrt(8) / 16
    return interp.load(network, verify=False)


@pytest.fixture(scope="module")
def model():
    return seeing()


def painted():
    """Two images: red in the middle and green at the rim; red at the top left alone. Four red patches in either."""
    pixels = torch.zeros(2, 3, 8, 8)
    pixels[0, 0, 2:6, 4:8] = 1
    pixels[0, 1, 6:8, 0:4] = 1
    pixels[1, 0, 0:2, 0:8] = 1
    return pixels


def asked(word, pixels):
    ids = torch.tensor([[BEGIN, *[IMAGE] * 16, GENERAL, word]] * len(pixels))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
    return interp.tasks.from_inputs(inputs, spans={"image": (1, 17), "rest": (17, 19)})


def test_the_contrast_finds_what_the_question_names(model):
    """Of 19 tokens the four red ones have the weight e⁴ / (15 + 4 e⁴), where the general question gives 1 / 19."""
    pixels = painted()
    found = relative_attention(model, asked(RED, pixels), general=asked(GENERAL, pixels))
    high, low = (19 * weight / (15 + 4 * np.exp(4)) for weight in (np.exp(4), 1))
    red = pixels[:, 0, ::2, ::2].reshape(2, 16).numpy() == 1
    np.testing.assert_allclose(found.values[0, 0], np.where(red, high, low), rtol=1e-3)
    np.testing.assert_allclose(found.values[0, 1], 1, rtol=1e-3)
    maps = image_maps(found)
    assert maps.shape == (2, 4, 4)
    boxes = [box_of(kept_regions(one)) for one in maps]
    assert boxes == [(1, 2, 3, 4), (0, 0, 1, 4)]
    green = image_maps(relative_attention(model, asked(GREEN, pixels), general=asked(GENERAL, pixels)))
    assert box_of(kept_regions(green[0], share=2 / 16)) == (3, 0, 4, 2)
    assert sharpest_window(maps[0], (2, 2), ratios=(1,)) == (1, 2, 3, 4)


def test_the_crop_shows_it_alone(model):
    """Asked again about the crop, every patch is what the question names: nothing is left to choose."""
    pixels = painted()
    mask = kept_regions(image_maps(relative_attention(model, asked(RED, pixels), general=asked(GENERAL, pixels)))[0])
    once = masked(pixels[:1], mask)
    assert once[:, 1].sum() == 0
    assert torch.equal(once[:, 0], pixels[:1, 0])
    crop = cropped(pixels[:1], box_of(mask), of=mask.shape)
    torch.testing.assert_close(crop[:, 0], torch.ones(1, 8, 8))
    again = relative_attention(model, asked(RED, crop), general=asked(GENERAL, crop)).values
    assert np.ptp(again[0, 0]) < 1e-3
    assert (again[0, 0] > 1.1).all()                        # it still looks at the image more than at the words


def test_a_question_without_a_contrast_chooses_nothing(model):
    pixels = painted()
    found = relative_attention(model, asked(RED, pixels), general=asked(RED, pixels))
    np.testing.assert_allclose(found.values, 1, rtol=1e-6)
    none = image_maps(relative_attention(model, asked(RED, torch.zeros_like(pixels)), general=asked(GENERAL, pixels * 0)))
    assert kept_regions(none[0]).all()


def test_over_layers_and_row_by_row_as_released(model):
    """Rows 17 (names nothing) and 18 (red): quotients of the layer's means, weighed 1 and 2."""
    pixels = painted()
    pair = asked(RED, pixels), asked(GENERAL, pixels)
    found = relative_attention(model, pair[0], general=pair[1], queries="rest", **CARVE).values
    red = pixels[:, 0, ::2, ::2].reshape(2, 16).numpy() == 1
    last = np.where(red, np.exp(4), 1) / (15 + 4 * np.exp(4))
    expected = 1 * 1 + 2 * (last + 1 / 19) / 2 / (1 / 19)
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-3)
    sums = relative_attention(model, pair[0], general=pair[1], queries="rest", weights="growing").values
    np.testing.assert_allclose(sums[0, 0], (1 / 18 + 2 * last) / (1 / 18 + 2 / 19), rtol=1e-3)
    end = relative_attention(model, pair[0], general=pair[1], quotient="of each row").values
    np.testing.assert_allclose(end, relative_attention(model, pair[0], general=pair[1]).values, rtol=1e-9)


def test_batch_size_and_order_of_prompts_change_nothing(model):
    pixels = painted()
    pair = asked(RED, pixels), asked(GENERAL, pixels)
    whole = relative_attention(model, pair[0], general=pair[1]).values
    one = relative_attention(model, pair[0], general=pair[1], batch_size=1).values
    turned = relative_attention(model, pair[0].subset([1, 0]), general=pair[1].subset([1, 0])).values
    np.testing.assert_allclose(one, whole, atol=1e-6)
    np.testing.assert_allclose(turned, whole[:, :, ::-1], atol=1e-6)
    assert np.abs(whole - whole[:, :, ::-1]).max() > 1


def test_what_cannot_be_is_refused(model):
    pixels = painted()
    with pytest.raises(InterpError, match="2 specific and 1 general"):
        relative_attention(model, asked(RED, pixels), general=asked(GENERAL, pixels[:1]))
    found = relative_attention(model, asked(RED, pixels), general=asked(GENERAL, pixels))
    with pytest.raises(InterpError, match="there are 1"):
        image_maps(found, layers=range(20, 26))
    with pytest.raises(InterpError, match="value='map'"):
        image_maps(relative_attention(model, asked(RED, pixels), general=asked(GENERAL, pixels), value="focus"))
    with pytest.raises(InterpError, match="3 × 7"):
        image_maps(found, grid=(3, 7))
    with pytest.raises(InterpError, match="a share lies"):
        kept_regions(MAP, share=0)
    with pytest.raises(InterpError, match="finite value"):
        kept_regions(np.full((2, 2), np.nan))
    with pytest.raises(InterpError, match="not within it"):
        cropped(pixels, (0, 0, 5, 1), of=(4, 4))
