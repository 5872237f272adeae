"""A small whole study file for tests, and a way to change it."""

from pathlib import Path

SMALL = """\
format: 1

study:
  slug: small
  title:
    en: "Small talk"
    fr: "Petites conversations"
  organisation: "Test University"
  contact_email: "study@example.org"
  overlap: 3
  seed: 7

task_design:
  min_turns: 2
  max_turns: 4
  explanation:
    policy: required
    min_words: 15
  turns:
    - {first: 1, last: 4, form: pick_one, k: 4, next_turn_source: annotator}

locales:
  - country: US
    language: en
    name: "English (United States)"
    published_country: "united states"
    consent:
      participation:
        title: "Before you start"
        body: "Asked by {organisation}; it takes {minutes} minutes."
        statement: "I agree to take part."
      sensitive:
        title: "Two more questions"
        body: "Both are optional."
        statement: "I agree that my answers are stored."
    guideline:
      title: "How it works"
      body: "Read **all** answers."
      practice:
        - prompt: "How do I boil an egg?"
          better: "Ten minutes in boiling water."
          worse: "Eggs are white."
          feedback_right: "Right."
          feedback_wrong: "Look again."
    questionnaires:
      eligibility:
        title: "One question first"
        questions:
          - code: adult
            type: single
            required: true
            text: "Are you 18 years of age or older?"
            options:
              - {code: yes, label: Yes}
              - {code: no, label: No, screens_out: true}
      before:
        title: "About you"
        questions:
          - code: birth_year
            type: birth_year
            column: age
            text: "What year were you born?"
            options:
              - {code: 18_34, label: "18 to 34", min_age: 18, max_age: 34, published: 18-34}
              - {code: 35_plus, label: "35 or older", min_age: 35, published: 35+}
              - {code: prefer_not_to_say, label: "Prefer not to say"}
          - code: gender
            type: single
            column: gender
            text: "How do you describe your gender?"
            options:
              - {code: woman, label: "Woman", stratum: female, published: female}
              - {code: man, label: "Man", stratum: male, published: male}
              - {code: prefer_not_to_say, label: "Prefer not to say"}
      after:
        consent: sensitive
        title: "Views"
        questions:
          - code: race_ethnicity
            type: multiple
            column: ethnicity
            published_when_several: Other
            text: "What is your race or ethnicity?"
            options:
              - {code: white, label: "White", published: White}
              - {code: hispanic, label: "Hispanic", published: "Hispanic or Latino", prevails: true}
              - {code: prefer_not_to_say, label: "Prefer not to say", exclusive: true}
  - country: FR
    language: fr
    name: "Français (France)"
    published_country: france
    explanation_min_words: 12
    consent:
      participation:
        title: "Avant de commencer"
        body: |-
          Étude de {organisation}.

          - Durée\u00a0: {minutes} minutes
        statement: "J’accepte de participer."
    guideline:
      title: "Comment ça se passe"
      body: "Lisez toutes les réponses."
    questionnaires:
      before:
        title: "Sur vous"
        questions:
          - code: gender
            type: single
            column: gender
            text: "Comment définissez-vous votre genre ?"
            options:
              - {code: woman, label: "Femme", stratum: female, published: female}
              - {code: man, label: "Homme", stratum: male, published: male}

quotas:
  women_and_men:
    kind: hard
    locales: [en-US, fr-FR]
    cells:
      women: {target: 50, strata: {gender: female}}
      men: {target: 50, strata: {gender: male}}

models:
  offline:
    model: polyphony-offline
    max_tokens: 2000

templates:
  diverse:
    text:
      en: "Write {count} answers, each after a line [[answer]]."
      fr: "Écrivez {count} réponses, chacune après une ligne [[answer]]."
  plain:
    text:
      en: "Answer the message."
      fr: "Répondez au message."

recipes:
  nc3_default1:
    parts:
      - {method: negatively_correlated, count: 3, model: offline, template: diverse, temperature: 0.7}
      - {method: default, count: 1, model: offline, template: plain}

topics:
  family: {en: "Family", fr: "Famille"}

prompts:
  phones_at_dinner:
    topic: family
    text:
      en: "Should I forbid phones at the table?"
      fr: "Dois-je interdire les portables à table\u00a0?"
  unpaid_loan:
    text:
      en: "A friend has not paid me back. How can I ask?"
      fr: "Une amie ne m’a pas remboursé. Comment le lui demander ?"

recruitment_links:
  - name: panel
    locales: [en-US, fr-FR]
    completion_url: "https://panel.example/done?code={code}"
"""


def changed(*replacements: tuple[str, str]) -> str:
    """SMALL with each (old, new) replaced; `old` must stand in it exactly once."""
    text = SMALL
    for old, new in replacements:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the file"
        text = text.replace(old, new)
    return text


def line_of(text: str, part: str) -> int:
    """Line (from 1) of the only line of `text` that holds `part`."""
    lines = [number for number, line in enumerate(text.splitlines(), start=1) if part in line]
    assert len(lines) == 1, f"{part!r} stands on lines {lines}"
    return lines[0]


def write(folder: Path, text: str | bytes, name: str = "study.yaml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# For `changed`: a second model with every limit, a second arm with variants, and a policy.
ARMS = (
    (
        "    max_tokens: 2000\n",
        "    max_tokens: 2000\n    replacement: spare\n"
        "  spare: {model: m-2, max_tokens: 900, structured_output: true, concurrency: 3, requests_per_minute: 60,"
        " tokens_per_minute: 9000, budget: 12.5}\n",
    ),
    (
        "\ntopics:\n",
        "  two_voices:\n    parts:\n"
        "      - {method: multi_model, count: 2, model: offline, template: plain, variants: [{model: offline}, {model: spare}]}\n"
        "      - {method: persona, count: 2, model: spare, template: plain,"
        " variants: [{template: plain}, {template: plain, model: offline}]}\n"
        "\ngeneration:\n  budget: 100\n  diversity_floor: 0.25\n  moderation_model: spare\n  judge_model: spare\n  judge_template: plain\n"
        "\ntopics:\n",
    ),
)
