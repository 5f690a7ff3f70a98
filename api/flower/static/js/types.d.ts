// The data that the pages get from the server, and what their modules share. Read by `tsc --checkJs` only.

interface Window {
  autorefresh?: number;
}

/** What `h` takes as a child; null, undefined and false are left out. */
type Child = Node | string | number | boolean | null | undefined | Child[];

/** Attributes of an element; `onclick` and the like are listeners, `style` an object of CSS properties. */
type Attributes = {
  [name: `on${string}`]: ((event: any) => unknown) | null;
  style?: Partial<CSSStyleDeclaration> | null;
} & { [name: string]: unknown };

interface FieldError {
  loc: (string | number)[];
  msg: string;
}

// -- the page's head (api/flower/facts.py, page.py) --------------------------------------------------

type Better = "min" | "max" | null;

interface Config {
  root: string;
  prefix: string;
  readOnly: boolean;
  xsrf: string;
  facts: { kinds: Kind[]; families: FamilyFacts[]; metrics: MetricFacts };
}

interface Kind {
  name: string;
  label: string;
  makesModel: boolean;
  trains: boolean;
  infers: boolean;
  runsProgram: boolean;
  needsDataset: boolean;
}

interface FamilyFacts {
  name: string;
  datasetKind: string;
  inference: Inference;
}

interface Inference {
  task?: string;
  prompts?: string[];
  count?: number;
}

interface MetricFacts {
  ofSteps: string[];
  lastSteps: string;
  headlines: string[];
  lowerIsBetter: string[];
  higherIsBetter: string[];
  neither: string[];
  fractions: string[];
  pace: string[];
  charts: string[];
  parts: string[];
  declared: Record<string, { label: string; better: Better }>;
}

// -- jobs ---------------------------------------------------------------------------------------------------

type JobState = "waiting" | "queued" | "running" | "paused" | "succeeded" | "failed" | "cancelled";
type Tags = Record<string, string>;
type Spec = Record<string, any>;

interface Progress {
  step?: number;
  total_steps?: number;
  percent?: number | null;
  eta_seconds?: number;
  samples_per_second?: number;
}

/** What every list and page tells of a job. */
interface Job {
  id: string;
  name: string | null;
  kind: string;
  state: JobState;
  family: string | null;
  framework: string | null;
  dataset: string | null;
  device: string | null;
  worker: string | null;
  priority: number;
  tags: Tags;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  stop_requested: string | null;
  progress: Progress | null;
  pinned?: Record<string, string>;
}

/** A row of the table of jobs. */
interface JobRow extends Job {
  model: string | null;
  attempt: number;
  archived: boolean;
  who: string;
  error: { type: string; message: string } | null;
  spark: { name: string; points: [number, number][] } | null;
  headline: { name: string; value: number } | null;
  values?: Record<string, unknown>;
}

interface JobsTable {
  items: JobRow[];
  total: number;
  /** There are more jobs than `total` says. */
  more: boolean;
  page: number;
  pages: number;
  counts: Record<string, number>;
  more_counts: boolean;
  problem?: string;
}

interface Curve {
  step: number[];
  epoch: number[];
  value: number[];
  at: number[];
}

type Curves = Record<string, Curve>;

interface LogLine {
  seq: number;
  at: string;
  level: string;
  message: string;
  attempt: number;
}

interface Attempt {
  attempt: number;
  worker: string;
  device: string | null;
  started_at: string;
  ended_at: string | null;
  outcome: string | null;
  error: { type?: string; message?: string } | null;
  evidence: { phase?: string; step?: number | null; log_tail?: string[] } | null;
  environment: ({ libraries?: Record<string, string> } & Record<string, any>) | null;
  resumed_step: number | null;
  signal: number | null;
  exit_code: number | null;
  peak_memory_bytes: number | null;
  peak_device_memory_bytes: number | null;
}

interface Checkpoint {
  step: number;
  epoch: number;
  size_bytes: number;
  sha256: string;
  is_best: boolean;
  state: string;
  created_at: string;
}

interface Artifact {
  path: string;
  size_bytes: number;
  sha256: string;
  media_type: string;
}

/** A stretch of a job's life. */
interface Stretch {
  state: string;
  from: string;
  to: string | null;
  attempt: number;
  outcome: string | null;
}

interface Change {
  path: string;
  before: unknown;
  after: unknown;
}

interface JobPage {
  job: Job & {
    spec: Spec;
    notes: string | null;
    model_ref?: string;
    program?: string;
    archived_at: string | null;
    promise: string | null;
    copied_from: { id: string; name: string | null; changes: Change[] } | null;
    part_of: string | null;
    shard: number | null;
    shards: number | null;
    result: { metrics?: Record<string, unknown> } | null;
  };
  seq: number;
  now: string;
  who: string;
  why: { sentence: string };
  actions: string[];
  attempts: Attempt[];
  checkpoints: Checkpoint[];
  artifacts: Artifact[];
  shards: JobPage["job"][];
  timeline: Stretch[];
  log: LogLine[];
}

interface JobEvent {
  seq: number;
  type: string;
  at: string;
  data: any;
}

/** What happened after an event's number, and how the job stands if anything did. */
interface JobLive {
  overview?: JobPage;
  events: JobEvent[];
  more: boolean;
}

interface Sample {
  at: string;
  [figure: string]: any;
}

// -- comparing jobs -----------------------------------------------------------------------------------------

interface ComparedJob extends Job {
  event_seq: number;
  results: Record<string, number>;
  best: Record<string, number>;
  settings: Record<string, unknown>;
  pictures: string[];
  curves?: Curves;
}

interface ComparePage {
  jobs: ComparedJob[];
  senses: Record<string, Better>;
  most: number;
  curves: number;
  matching: number;
}

/** One value of all jobs that are compared. */
interface CompareColumn {
  key: string;
  label: string;
  group: "job" | "results" | "best" | "settings";
  values: any[];
  sense: Better;
  text: (value: any) => string;
  numeric: boolean;
  differs: boolean;
}

/** What the address says of the view. */
type View = Record<string, string | undefined>;

interface CompareTools {
  /** Change the address; null takes a name out. */
  change: (changes: Record<string, string | null>) => void;
  /** The color of a job by its place. */
  mark: (place: number) => string;
}

// -- models -------------------------------------------------------------------------------------------------

interface Owned {
  owner: string | null;
  yours: boolean;
  may_change: boolean;
}

interface Alias {
  alias: string;
  version: number;
  since: string;
}

interface ModelVersion {
  version: number;
  family: string;
  framework: string;
  dataset: string | null;
  parent: string | null;
  metrics: Record<string, any>;
  description: string | null;
  tags: Tags;
  created_at: string;
  job: { id: string; name: string | null } | null;
  who: string | null;
  promotion: { promoted: boolean; reason: string; alias: string } | null;
  schedule: { id: string; name: string } | null;
}

interface AliasChange {
  change: string;
  alias: string;
  from_version: number | null;
  to_version: number | null;
  who: string;
  why: string | null;
  at: string;
}

interface Paged<T> {
  items: T[];
  next: string | null;
}

interface Comparison {
  versions: number[];
  jobs: (string | null)[];
  same_dataset: boolean;
  datasets: (string | null)[];
  metrics: { name: string; sense: Better; values: unknown[]; best: number[] }[];
  settings: { name: string; values: unknown[] }[];
}

interface ModelPage extends Owned {
  name: string;
  description: string | null;
  aliases: Alias[];
  metric: string | null;
  senses: Record<string, Better>;
  total: number;
  charts: Record<string, { version: number[]; value: number[] }>;
  versions: ModelVersion[];
  next: number | null;
  comparison: Comparison | null;
  history: Paged<AliasChange>;
}

interface ModelRow extends Owned {
  name: string;
  family: string;
  framework: string;
  champion: { version: number; metrics: Record<string, any> } | null;
  metric: string | null;
  points: [number, number][];
  aliases: Record<string, number>;
  versions: number;
  latest_version: number;
  updated_at: string;
}

// -- data sets ----------------------------------------------------------------------------------------------

type Splits = Record<
  string,
  { count: number; classes?: Record<string, number>; tokens?: number; tags?: Record<string, number> }
>;

interface DatasetRow extends Owned {
  name: string;
  registered: boolean;
  builtin: boolean;
  availability: string;
  kind: string;
  version: number;
  splits: Splits;
  classes: string[];
  tags: string[];
  image: [number, number, number] | null;
  size_bytes: number;
  created_at: string;
  jobs: number;
}

interface DatasetVersion {
  version: number;
  created_at: string;
  rows: Record<string, number>;
  change: {
    rows: Record<string, number>;
    classes: string[];
    gone: string[];
    tags: string[];
    gone_tags: string[];
  } | null;
  size_bytes: number;
  jobs: number;
  models: number;
  held_by: string[];
}

type Cell = boolean | number | string | null;

interface TableColumn {
  name: string;
  type: string;
  nulls: number;
  distinct: number | null;
  distinct_is_capped: boolean;
  min: Cell;
  max: Cell;
  mean: number | null;
  top: { value: Cell; count: number }[] | null;
  outliers?: { count: number; low: number; high: number } | null;
  not_numbers?: { count: number; of: number; value: string; row: number; line: number | null } | null;
}

/** What should be cleaned in a table; versions that an older build registered have none. */
interface CleaningReport {
  missing: number;
  with_missing: string[];
  duplicates: { count: number; of: number } | null;
  empty: string[];
  constant: string[];
  outliers: number;
  with_outliers: string[];
  not_numbers: string[];
}

interface TablePreview {
  columns: TableColumn[];
  column_count: number;
  rows: Cell[][];
  report?: CleaningReport;
}

interface FilesPreview {
  files: { path: string; size_bytes: number }[];
}

interface UploadFacts {
  data_kinds: string[];
  formats: string[];
  max_upload_bytes: number;
}

interface DatasetsPage extends UploadFacts {
  datasets: DatasetRow[];
}

interface DatasetPage extends Omit<DatasetRow, "jobs">, UploadFacts {
  newest?: number;
  split: string | null;
  preview: TablePreview | FilesPreview | null;
  sha256: string;
  used: { jobs: number };
  versions: DatasetVersion[];
  jobs: (Job & { version: number | null })[];
  models: { name: string; version: number; family: string; dataset_version: number | null; created_at: string }[];
}

// -- schedules ----------------------------------------------------------------------------------------------

type TickOutcome = "submitted" | "waiting" | "skipped" | "missed" | "failed";

interface Tick {
  due_at: string;
  due_at_local: string;
  outcome: TickOutcome;
  manual: boolean;
  job_id: string | null;
  job_state: JobState | null;
  reason: string | null;
}

interface Schedule {
  id: string;
  name: string;
  enabled: boolean;
  cron: string;
  timezone: string;
  overlap: "skip" | "queue" | "cancel_running";
  catch_up: "none" | "latest" | "all";
  catch_up_limit: number;
  max_lateness_seconds: number | null;
  skip_if_unchanged: boolean;
  next_at: string | null;
  next_at_local: string;
  job: Spec;
}

interface ScheduleRow extends Schedule {
  ticks: Tick[];
  who: string;
}

interface LocalTime {
  utc: string;
  local: string;
}

interface SchedulePage {
  schedule: Schedule & { last_tick: unknown };
  next: LocalTime[];
  history: Paged<Tick>;
}

// -- sweeps -------------------------------------------------------------------------------------------------

interface SweepParameter {
  type: "choice" | "int" | "float";
  choices: unknown[] | null;
  low: number | null;
  high: number | null;
  step: number | null;
  log: boolean;
  when: Record<string, unknown>;
}

interface Sweep {
  id: string;
  name: string | null;
  state: "running" | "paused" | "stopping" | "succeeded" | "failed" | "stopped" | "cancelled";
  job: Spec;
  space: Record<string, SweepParameter>;
  objective: { metric: string; direction: "max" | "min" };
  trials: number;
  concurrency: number;
  sampler: string;
  pruner: { name: string; metric: string | null };
  seed: number;
  started: number;
  running: number;
  pruned: number;
  failed: number;
  best: number | null;
  best_value: number | null;
  importance: Record<string, number> | null;
  outcome: {
    registered?: string;
    job_id?: string;
    schedule?: string;
    refused?: Record<string, string>;
    failed_because?: string;
  } | null;
  created_at: string;
  finished_at: string | null;
}

interface SweepRow extends Sweep {
  who: string;
}

interface Trial {
  number: number;
  params: Record<string, unknown>;
  state: "running" | "complete" | "pruned" | "failed" | "cancelled";
  pruning: boolean;
  value: number | null;
  reason: string | null;
  job_id: string | null;
  job_state: string | null;
  steps: number | null;
  percent: number | null;
  started_at: string;
  ended_at: string | null;
}

interface SweepPage extends Sweep {
  trial_list: Trial[];
  events: { seq: number; type: string; at: string; data: Record<string, unknown> }[];
}

// -- devices ------------------------------------------------------------------------------------------------

interface Usage {
  busy_percent?: number;
  temperature_celsius?: number;
  memory_used_bytes?: number;
  memory_bytes?: number;
  runner: { cpu_percent?: number; memory_bytes: number } | null;
  host: { cpu_percent?: number; cores?: number; memory_used_bytes?: number; memory_bytes?: number };
}

interface Device {
  name: string;
  host: string;
  device: "cpu" | "gpu";
  device_name: string;
  state: "online" | "offline" | "draining" | "not_listening" | "device_failed" | "disk_full";
  left_because: string | null;
  heartbeat_at: string;
  started_at: string;
  memory_bytes?: number;
  frameworks: string[];
  unusable: Record<string, string>;
  versions: Record<string, string> | null;
  usage: Usage | null;
  job: (Job & { attempt: number }) | null;
  /** Its row in the ledger; null before it is registered. */
  ledger: { cordoned_at: string | null; is_held: boolean; labels: string[] } | null;
  /** Jobs that have left the device and are not settled. */
  finishing: (Job & { attempt: number })[];
  last: (Job & { attempt: number; outcome: string; ended_at: string }) | null;
}

/** [from, to, outcome, attempts, id of the job if it may be told] */
type PackedSpan = [number, number, string, number, string | null];

interface Span {
  from: number;
  to: number;
  outcome: string;
  count: number;
  job_id: string | null;
  name?: string | null;
  kind?: string;
  family?: string;
  dataset?: string;
}

interface Past {
  window: "hour" | "day" | "week";
  since: number;
  now: number;
  devices: Record<
    string,
    { busy_share: number; attempts: number; outcomes: Record<string, number>; spans: PackedSpan[] }
  >;
  jobs: Record<string, object>;
  wait: { jobs: number; mean_seconds: number; longest_seconds: number };
}

interface QueuedJob {
  id: string | null;
  name: string | null;
  kind: string;
  family: string;
  framework: string;
  dataset: string | null;
  device: string;
  who: string;
  priority: number;
  preempts: boolean;
  waited_seconds: number;
  run_at: string;
  why: string | null;
}

interface Queue {
  due: QueuedJob[];
  later: QueuedJob[];
  counts: { due: number; later: number; waiting: number; paused: number };
  devices: Record<string, { count: number; oldest_seconds: number }>;
}

interface DevicesPage {
  devices: Device[];
  history: Past;
  queue: Queue;
}

// -- a new job, a task --------------------------------------------------------------------------------------

interface FormField {
  path: string;
  type?: string;
  often?: boolean;
  enum?: (string | number)[];
  /** It may be null. */
  nullable?: boolean;
  /** The type of the entries of a list, and their limits. */
  items?: string;
  entries?: Partial<FormField>;
  /** Choices of a list, any of which can be ticked. */
  options?: string[];
  default?: any;
  title?: string;
  hint?: string;
  /** The id of a list of suggestions. */
  list?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  description?: string;
  format?: string;
  /** The field whose choice decides the default: its path, what is chosen if it is empty, and the default by choice. */
  by?: { path: string; usual: string; values: Record<string, any> };
}

/** As `POST /v1/families/summary` answers, or as a job has written it. */
interface ModelSummary {
  rows: "layers" | "weights";
  layers: { name: string; kind: string; shape: (number | null)[]; parameters: number; fixed: number }[] | null;
  parameters: number | null;
  fixed: number | null;
  bytes: number | null;
  facts: Record<string, unknown>;
  dataset?: string | null;
  error?: string | null;
}

interface SubmitPage {
  origin: { id: string; name: string | null; spec: Spec; dataset: string | null; registered_as: string | null } | null;
  forms: Record<string, FormField[]>;
  families: {
    name: string;
    dataset_kind: string;
    default_preset: string;
    presets: Record<string, { model: Record<string, unknown>; training: Record<string, unknown> }>;
    fields: FormField[];
    augmentations: string[];
  }[];
  datasets: {
    name: string;
    kind: string;
    availability: string | null;
    /** Those that can learn from it. */
    families: string[];
    /** Of a table. */
    columns: string[];
  }[];
  models: { name: string; family: string }[];
  programs: { name: string; description: string; dataset_kinds: string[]; fields: FormField[] }[];
  token: string;
}

interface TaskPage {
  task_id: string;
  job_id: string;
  worker: string;
  started_at: string;
  ended_at: string | null;
  state: string;
  outcome: string | null;
  stop_requested: string | null;
  error: string | null;
  description: { job: string; work: string; status: string };
}

// -- tables, dialogs, charts --------------------------------------------------------------------------------

interface Column<Row> {
  key?: string;
  label: string;
  /** Shown in the head instead of the label. */
  head?: Child;
  title?: string;
  class?: string;
  /** What the table can be sorted by. */
  sort?: string;
  /** The first order that a press asks for, if not ascending. */
  first?: string;
  cell: (row: Row) => Child;
}

interface TableOptions<Row> {
  key: (row: Row) => string | number;
  sort?: string;
  onSort?: (sort: string) => void;
  rowClass?: (row: Row) => string;
}

interface Question {
  question: string;
  detail: string;
}

interface ActionOptions {
  style?: string;
  /** Asked before. */
  ask?: Question;
  body?: object;
  /** Gets the answer. */
  done?: (answer: any) => unknown;
  title?: string;
}

interface AskField {
  name: string;
  label: string;
  value?: string;
  options?: [string, string][];
  max?: number;
  required?: boolean;
  hint?: string;
  /** Rows of a text area. */
  lines?: number;
  pattern?: string;
}

/** A curve in a chart; `from` is the zero of its time (seconds). */
interface Line {
  label: string;
  name: string;
  color: string;
  curve: Curve | Omit<Curve, "epoch">;
  from: number;
}

interface ChartGroup {
  title: string;
  lines: Line[];
}

interface Live {
  /** Ask at once. */
  now: () => Promise<void>;
  stop: (text?: string) => void;
}

/** What is done to all selected jobs. */
interface BulkAction {
  name: string;
  label: string;
  style?: string;
  /** Told afterwards, before the number of jobs. */
  done: string;
  /** The action that takes it back. */
  undo?: string;
  fits: (job: JobRow) => boolean;
  /** Asked before: title and detail. */
  question?: (count: number) => [string, string];
  fields?: AskField[];
}

/** A mark of an axis; `at` is its place from 0 to 1. */
interface TickMark {
  at: number;
  label: string;
}

interface Scale {
  at: (value: any) => number | null;
  ticks: TickMark[];
  log: boolean;
}
