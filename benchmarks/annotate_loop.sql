-- What one annotate loop must read, lock and write, as a careful hand would put it: claim a slot, show it, store the comparison.
-- Variables: :first_annotator (eight people with ids in a row), :locale, :design.
\set annotator :first_annotator + :client_id
BEGIN;
SELECT a.state, a.seed, s.state AS study_state, s.lease_minutes FROM annotators_annotator a JOIN studies_study s ON s.id = a.study_id
  WHERE a.id = :annotator FOR UPDATE OF a;
SELECT count(*) AS ordinal FROM annotation_conversation WHERE annotator_id = :annotator;
SELECT s.id AS slot, s.prompt_id AS prompt, s.recipe_id AS recipe, s.candidate_set_id AS set, s.fencing_token + 1 AS token
  FROM annotation_slot s JOIN generation_candidateset c ON c.id = s.candidate_set_id
  WHERE s.study_locale_id = :locale AND s.state = 'OPEN' AND c.state = 'READY'
    AND NOT EXISTS (SELECT 1 FROM annotation_assignment h WHERE h.annotator_id = :annotator AND h.prompt_id = s.prompt_id)
  ORDER BY s.queue_position LIMIT 1 FOR UPDATE OF s SKIP LOCKED \gset
UPDATE annotation_slot SET state = 'CLAIMED', fencing_token = :token, lease_expires_at = now() + interval '1 hour' WHERE id = :slot;
INSERT INTO annotation_assignment (annotator_id, slot_id, prompt_id, recipe_id, purpose, state, submission_id, fencing_token, lease_expires_at,
    policy, seed, reason, claimed_at)
  VALUES (:annotator, :slot, :prompt, :recipe, 'MAIN', 'ACTIVE', gen_random_uuid(), :token, now() + interval '1 hour',
    'fill_to_overlap', 0, 'wave 1, seat 1', now()) RETURNING id AS assignment \gset
INSERT INTO annotation_conversation (assignment_id, annotator_id, started_at) VALUES (:assignment, :annotator, now())
  RETURNING id AS conversation \gset
SELECT form, k FROM studies_turndesign WHERE task_design_id = :design;
INSERT INTO annotation_turn (conversation_id, number, state, source, message, detected_language, body_hash, candidate_set_id, form, k,
    display_seed, created_at, ready_at, device_class, layout)
  SELECT :conversation, 1, 'READY', 'PREGENERATED', text_en, '', '', :set, 'PICK_ONE', 4, 1, now(), now(), '', ''
  FROM content_prompt WHERE id = :prompt RETURNING id AS turn \gset
COMMIT;
SELECT a.*, s.*, l.*, d.* FROM annotators_annotator a JOIN studies_study s ON s.id = a.study_id
  JOIN studies_studylocale l ON l.id = a.study_locale_id JOIN studies_taskdesign d ON d.study_id = s.id WHERE a.id = :annotator;
SELECT c.*, w.* FROM annotation_conversation c JOIN annotation_assignment w ON w.id = c.assignment_id
  WHERE c.annotator_id = :annotator AND c.ended_at IS NULL;
BEGIN;
UPDATE annotation_turn SET state = 'SHOWN', shown_at = now(), device_class = 'desktop' WHERE id = :turn AND state = 'READY';
INSERT INTO annotation_showncandidate (turn_id, candidate_id, position, text)
  SELECT :turn, id, slot, text FROM generation_candidate WHERE candidate_set_id = :set;
COMMIT;
SELECT position, text FROM annotation_showncandidate WHERE turn_id = :turn ORDER BY position;
SELECT count(*) FROM annotation_conversation WHERE annotator_id = :annotator AND ended_at IS NOT NULL;
BEGIN;
SELECT state FROM annotators_annotator WHERE id = :annotator FOR UPDATE;
SELECT state, fencing_token FROM annotation_slot WHERE id = :slot FOR UPDATE;
SELECT state, fencing_token FROM annotation_assignment WHERE id = :assignment FOR UPDATE;
SELECT number, state FROM annotation_turn WHERE id = :turn;
INSERT INTO annotation_comparison (turn_id, revision, is_current, submission_id, body_hash, outcome, explanation, detected_language, created_at)
  VALUES (:turn, 1, true, gen_random_uuid(), repeat('0', 64), 'PREFERENCE',
    'Answer B names a concrete plan for the whole day, while answer C only says that resting is fine and stops there.', 'en', now())
  RETURNING id AS comparison \gset
INSERT INTO annotation_comparisonitem (comparison_id, shown_candidate_id, rank)
  SELECT :comparison, id, CASE position WHEN 2 THEN 1 ELSE 2 END FROM annotation_showncandidate WHERE turn_id = :turn;
INSERT INTO annotation_change (comparison_id, kind, created_at) VALUES (:comparison, 'ADDED', now());
UPDATE annotation_turn SET state = 'ANSWERED', answered_at = now(), layout = 'column' WHERE id = :turn;
UPDATE annotation_conversation SET ended_at = now() WHERE id = :conversation;
UPDATE annotation_assignment SET state = 'COMPLETED', ended_at = now() WHERE id = :assignment;
UPDATE annotation_slot SET state = 'FILLED', lease_expires_at = NULL WHERE id = :slot;
SELECT count(*) FROM annotation_conversation WHERE annotator_id = :annotator AND ended_at IS NOT NULL;
COMMIT;
