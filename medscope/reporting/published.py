"""Numbers of the paper (arXiv 2602.13332): 7B parameters, real videos. They never stand in one column with ours."""

# Table 2 of the paper, per cent. TG: temporal grounding; GVQA: grounded VQA, mIoU and accuracy.
_COLUMNS = (
    "OphVL TG R@.3/.5/.7/mIoU", "OphVL GVQA mIoU/Acc", "MedVideoCap GVQA", "SurgVidLM TG (OOD)", "SurgVidLM GVQA (OOD)",
)  # fmt: skip
_ROWS = {
    "Qwen2.5-VL-7B": "43.45/41.16/21.94/30.18  32.91/4.37  56.87/25.86  27.61/21.94/15.31/19.15  11.98/3.73",
    "LongVT-7B-RFT": "48.73/32.32/23.52/39.56  42.17/14.16  55.34/31.22  51.13/37.66/16.73/39.74  25.72/17.02",
    "MedScope-7B-SFT": "67.19/54.43/43.72/49.28  53.28/25.03  52.7/32.2  52.04/38.75/22.97/41.63  32.13/35.2",
    "MedScope-7B-RL": "81.92/68.87/54.35/64.42  65.58/35.10  61.20/39.80  55.60/40.10/22.35/44.30  34.10/37.90",
}
PUBLISHED = {name: dict(zip(_COLUMNS, row.split(), strict=True)) for name, row in _ROWS.items()}

# SVU-31K, the paper's own row only.
PUBLISHED_TEXT = {
    "MedScope-7B": {
        "full CI/DO/CU/TU": "4.76/4.77/4.77/4.75", "fine CI/DO/CU/TU": "4.00/4.36/4.15/4.08",
        "temporal BLEU-4/CIDEr/METEOR/ROUGE-L": "11.30/4.56/16.89/34.83",
        "perception BLEU-4/CIDEr/METEOR/ROUGE-L": "18.90/10.93/21.62/41.54",
    }
}  # fmt: skip
