"""The model card of a bundle."""

from models.bundle import Manifest

CARD = "README.md"

_CARD = """\
# {name} {version}

A vibestream student: reads the text of a short video and says for {attributes} attributes how probable each is.

- **Trained on** {data}; {rows} texts{space}. Licence of the data: {licence}.
- **Calibrated** per attribute by Platt scaling inside the graph, on {heldout} texts, each scored by a fit that had not
  learned it.
- **Thresholds** in `manifest.json` (`threshold`) are where F1 was best on those texts; bands (`lo`, `hi`) are {bands}
- **Measured** on {measured} {on}: macro F1 {macro_f1}, calibration error {macro_ece} (15 bins of equal mass, mean over
  attributes), {uncertain:.1%} of the texts have an attribute inside its band.
- **Limits**: it knows the language and kind of text it was trained on. Rare attributes have few positives, so their
  thresholds and figures are uncertain. Recalibrate when the traffic differs from the training texts.

| attribute | certified | positives | F1 | ECE | asks about | recall with the LLM | precision with the LLM |
|---|---|---|---|---|---|---|---|
{table}

The last two columns take the LLM to be always right.
{proofs}"""

_PROOFS = """
## Certificate

{certified} of {attributes} attributes are certified: for each by itself the chance is at most {delta:.0%} that its
band is called certified and yet misses the catalogue's targets of precision and recall, the LLM's errors included. It
was tested on {texts} texts that people labelled and the student has not learned; {pilot} others said which bands to
try. It is a promise for traffic like these texts, this student and an LLM like the one below, and for nothing else:
certify again when one of them changes.

**The LLM's answers** were {answers}.

| attribute | certified | positives | asked about | precision | recall |
|---|---|---|---|---|---|
{table}
"""


def model_card(manifest: Manifest) -> str:
    """Return the card in Markdown."""
    metrics, training = manifest.metrics, manifest.training
    certified = {one.id: "yes" if one.certified else "no" for one in manifest.attributes}
    table = "\n".join(
        f"| {name} | {certified[name]} | {m.positives} | {m.f1} | {m.ece} | {m.uncertain:.1%} |"
        f" {_shown(m.recall)} | {_shown(m.precision)} |"
        for name, m in metrics.attributes.items()
    )
    return _CARD.format(
        name=manifest.name,
        version=manifest.version,
        attributes=len(manifest.attributes),
        data=training.data,
        licence=training.licence,
        rows=training.rows,
        space=f", on the trunk of {training.space}, whose vectors it has" if training.space else "",
        heldout=training.heldout_rows,
        bands="those of the certificate below; where it says no, they are estimates."
        if manifest.certificate
        else "point estimates, not certified.",
        measured=metrics.rows,
        on="texts that nothing was fitted on"
        if metrics.on == "dev"
        else "of those, each half at the other's thresholds",
        macro_f1=metrics.macro_f1,
        macro_ece=metrics.macro_ece,
        uncertain=metrics.uncertain_any,
        table=table,
        proofs=_proofs(manifest),
    )


def _proofs(manifest: Manifest) -> str:
    certificate = manifest.certificate
    if certificate is None:
        return ""
    rows = [
        f"| {one.id} | {'yes' if one.certified else 'no'} | {proof.positives} | {_shown(proof.asked)} |"
        f" {_shown(proof.precision)} | {_shown(proof.recall)} |"
        for one in manifest.attributes
        if (proof := certificate.attributes.get(one.id))
    ]
    reasons = [f"- {one.id} is not certified: {one.reason}." for one in manifest.attributes if one.reason]
    text = _PROOFS.format(
        certified=sum(one.certified for one in manifest.attributes),
        attributes=len(manifest.attributes),
        delta=certificate.delta,
        texts=certificate.texts,
        pilot=certificate.pilot_texts,
        answers=certificate.answers,
        table="\n".join(rows),
    )
    return text + ("\n" + "\n".join(reasons) + "\n" if reasons else "")


def _shown(value: float | None) -> str:
    return "–" if value is None else str(value)
