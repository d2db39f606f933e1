package spec

import "skep/generator/problem"

// The rules of the loader: what keeps a file from becoming a model.
var (
	ruleFile = problem.Rule{ID: "unreadable-file", Severity: problem.Error, Title: "A file cannot be read",
		Doc: "Skep could not read a file that the project needs: it is missing, not a regular file, larger than 4 MiB, or not text. " +
			"Nothing is generated from half a project.\n\nCheck the path and the permissions; a stack file that large holds something that belongs into a file of its own (`x-files`)."}
	ruleSyntax = problem.Rule{ID: "yaml-syntax", Severity: problem.Error, Title: "Not valid YAML",
		Doc: "The file is not YAML that Compose can read: a syntax error, a key that stands twice, a document nested deeper than 64 levels, or aliases that expand without bound.\n\nThe message says where reading stopped. Tabs do not indent YAML; a value with `: ` or ` #` in it needs quotes."}
	ruleSchema = problem.Rule{ID: "compose-schema", Severity: problem.Error, Title: "Not a valid Compose file",
		Doc: "A key or value is not what the Compose specification allows at this place.\n\nThe message names the key; https://docs.docker.com/reference/compose-file/ describes it."}
	ruleKey = problem.Rule{ID: "unknown-key", Severity: problem.Error, Title: "Unknown key",
		Doc: "Skep does not know this key, so what it says would silently not happen.\n\nCorrect the spelling (the message suggests the nearest key) or remove it. `x-` keys of other tools pass through as long as they are not close to one of Skep's."}
	ruleValue = problem.Rule{ID: "invalid-value", Severity: problem.Error, Title: "A value that cannot be used",
		Doc: "The value has the wrong type, or is not one that the key takes.\n\n`skep schema stack` and `skep schema cluster` give editors what they need to complete and check these files."}
	ruleVariable = problem.Rule{ID: "unset-variable", Severity: problem.Error, Title: "A variable without a value",
		Doc: "The file interpolates `${NAME}` and no `.env` sets it. Docker would silently put an empty string there.\n\nSet it in the `.env` beside the stack file or beside cluster.yaml, give a default (`${NAME:-value}`), or write `$$` for a literal dollar sign. The environment of the process is not read: the same files give the same bundle everywhere. Secrets do not belong into `.env`: write `op://vault/item/field`."}
	ruleCompose = problem.Rule{ID: "compose-load", Severity: problem.Error, Title: "Compose cannot load the file",
		Doc: "The Compose loader refused the file: an `include`, `extends` or `env_file` that is not there, a cycle, or keys that contradict each other.\n\nThe message is the loader's own."}
	ruleReference = problem.Rule{ID: "invalid-reference", Severity: problem.Error, Title: "Not a secret reference",
		Doc: "A value that starts like a 1Password reference is not one.\n\nWrite `op://vault/item/field` or `op://vault/item/section/field`, as 1Password's \"Copy secret reference\" gives it."}
	ruleUnknownName = problem.Rule{ID: "unknown-name", Severity: problem.Error, Title: "A name that is not declared",
		Doc: "The file names a tier, zone, network, service or node that the cluster file or the stack does not declare.\n\nCorrect the spelling or declare it."}
	ruleDuplicate = problem.Rule{ID: "duplicate-stack", Severity: problem.Error, Title: "Two stacks of one name",
		Doc: "Two stack files have the same name; deploying one would replace the other.\n\nGive one of them another `name`."}
	ruleWaiver = problem.Rule{ID: "waiver", Severity: problem.Error, Title: "A waiver that says nothing",
		Doc: "`x-waive` silences a check, and must say why; it must name a check that exists.\n\nWrite `x-waive: {rule-id: the reason}`."}
)

// Rules lists what the loader can complain about.
func Rules() []problem.Rule {
	return []problem.Rule{ruleFile, ruleSyntax, ruleSchema, ruleKey, ruleValue, ruleVariable, ruleCompose, ruleReference, ruleUnknownName, ruleDuplicate, ruleWaiver}
}
