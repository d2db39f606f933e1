package controlplane

// Command is what a comment asks for: /skep <verb> [stack...].
type Command struct {
	Verb   Verb
	Stacks []Name // empty: all of them
	// Problem says why the comment is answered with help instead. It repeats
	// nothing that the comment says.
	Problem string
}

type Verb string

const (
	VerbPlan     Verb = "plan"
	VerbDeploy   Verb = "deploy"
	VerbPreview  Verb = "preview"
	VerbDestroy  Verb = "destroy"
	VerbRollback Verb = "rollback"
	VerbHelp     Verb = "help"
)

// Verbs are all of them, as help lists them.
var Verbs = []Verb{VerbPlan, VerbDeploy, VerbPreview, VerbDestroy, VerbRollback, VerbHelp}

// ForForks says whether the verb may be obeyed on a pull request whose head
// lies in another repository: nothing that deploys or takes a secret.
func (v Verb) ForForks() bool { return v == VerbPlan || v == VerbHelp }

// Input is what a run of a project starts from: Run.Input in JSON. The project
// itself is read when the run works, for it may have changed by then.
type Input struct {
	Change  Change   `json:"change"`
	Command *Command `json:"command,omitempty"`
}

// Supersedes reports whether a run does what others of its like before it were
// to do: it goes forward, and is about all stacks.
func (i Input) Supersedes() bool {
	return i.Command == nil || len(i.Command.Stacks) == 0 && i.Command.Verb != VerbRollback
}
