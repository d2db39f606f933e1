package event

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"skep/services/controlplane"
)

func TestParseCommand(t *testing.T) {
	type command = controlplane.Command
	names := func(s ...controlplane.Name) []controlplane.Name { return s }
	for _, c := range []struct {
		comment string
		want    command
		none    bool
	}{
		{comment: "/skep plan", want: command{Verb: controlplane.VerbPlan}},
		{comment: "Thanks!\r\n/skep deploy web  api\tweb\r\n", want: command{Verb: controlplane.VerbDeploy, Stacks: names("web", "api")}},
		{comment: "/skep", want: command{Verb: controlplane.VerbHelp}},
		{comment: "/skep help", want: command{Verb: controlplane.VerbHelp}},
		{comment: "/skep plan\n/skep deploy", want: command{Verb: controlplane.VerbPlan}},
		{comment: "> /skep deploy\n/skep plan", want: command{Verb: controlplane.VerbPlan}},
		{comment: "```\n/skep deploy\n```\n/skep plan", want: command{Verb: controlplane.VerbPlan}},
		{comment: "~~~~ sh\n/skep deploy\n~~~\n/skep rollback\n```\n~~~~~\n/skep plan", want: command{Verb: controlplane.VerbPlan}},
		{comment: "```go\n/skep deploy\n```go\n/skep rollback\n  ```  \n/skep preview", want: command{Verb: controlplane.VerbPreview}},
		{comment: "> ```\n/skep destroy", want: command{Verb: controlplane.VerbDestroy}},
		{comment: "```inline``` text\n/skep destroy", want: command{Verb: controlplane.VerbDestroy}},
		{comment: "    ```\n/skep destroy", want: command{Verb: controlplane.VerbDestroy}},
		{comment: "/skep explode", want: command{Verb: controlplane.VerbHelp, Problem: "there is no such command"}},
		{comment: "/skep Deploy", want: command{Verb: controlplane.VerbHelp, Problem: "there is no such command"}},
		{comment: "/skep deploy ../etc", want: command{Verb: controlplane.VerbHelp, Problem: "the name of a stack has up to 63 of a-z, 0-9 and -"}},
		{comment: "/skep deploy" + strings.Repeat(" a", 51), want: command{Verb: controlplane.VerbHelp, Problem: "too many stacks for one command"}},
		{comment: "", none: true},
		{comment: "please /skep deploy", none: true},
		{comment: " /skep deploy", none: true},
		{comment: "    /skep deploy", none: true},
		{comment: "> /skep deploy", none: true},
		{comment: "`/skep deploy`", none: true},
		{comment: "/skepdeploy", none: true},
		{comment: "/skep\u00a0deploy", none: true},
		{comment: "```\n/skep deploy", none: true},
		{comment: "~~~\n```\n/skep deploy\n```", none: true},
	} {
		got, ok := ParseCommand(c.comment)
		if ok == c.none || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v, %v", c.comment, got, ok)
		}
	}
}

func FuzzParseCommand(f *testing.F) {
	for _, s := range []string{"/skep plan", "> /skep deploy a b", "```\n/skep deploy\n```", "~~~\n/skep\n", "/skep deploy \x00", "a\r\n/skep rollback web"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, comment string) {
		c, ok := ParseCommand(comment)
		if !ok {
			return
		}
		if !slices.Contains(controlplane.Verbs, c.Verb) || c.Problem != "" && c.Verb != controlplane.VerbHelp {
			t.Errorf("%+v", c)
		}
		for _, s := range c.Stacks {
			if _, err := controlplane.ParseName(string(s)); err != nil {
				t.Error(err)
			}
		}
		// What is quoted is not obeyed.
		quoted := "> " + strings.ReplaceAll(comment, "\n", "\n> ")
		if c, ok := ParseCommand(quoted); ok {
			t.Errorf("quoted and obeyed: %+v", c)
		}
	})
}
