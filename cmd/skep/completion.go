package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// completions are the shells' scripts. They ask skep itself what may follow;
// what was typed is passed on as words and never evaluated.
var completions = map[string]string{
	"bash": `# bash completion of skep: source <(skep completion bash)
_skep() {
	local IFS=$'\n' cur=${COMP_WORDS[COMP_CWORD]}
	local words=("${COMP_WORDS[@]:0:COMP_CWORD}")
	[[ $cur == -* ]] && words+=("$cur")
	COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o bashdefault -o default -F _skep skep
`,
	"zsh": `#compdef skep
# zsh completion of skep: source <(skep completion zsh)
_skep() {
	local -a found ask
	ask=("${(@)words[1,CURRENT-1]}")
	[[ ${words[CURRENT]} == -* ]] && ask+=("${words[CURRENT]}")
	found=("${(@f)$(_CLI_ZSH_AUTOCOMPLETE_HACK=1 "${ask[@]}" --generate-bash-completion 2>/dev/null)}")
	if [[ -n ${found[1]} ]]; then
		_describe 'skep' found
	fi
	_files
}
compdef _skep skep
`,
	"fish": `# fish completion of skep: skep completion fish | source
function __skep_complete
	set -l words (commandline -opc)
	set -l current (commandline -ct)
	string match -q -- '-*' $current; and set -a words $current
	$words --generate-bash-completion 2>/dev/null
end
complete -c skep -a '(__skep_complete)'
`,
}

func (p *program) completion() *cli.Command {
	shells := slices.Sorted(maps.Keys(completions))
	return &cli.Command{
		Name:      "completion",
		Usage:     "Print the completion script of a shell",
		ArgsUsage: strings.Join(shells, "|"),
		Description: "Completes commands, flags and rules.\n\n" +
			"Examples:\n   source <(skep completion bash)                 # in ~/.bashrc\n   source <(skep completion zsh)                  # in ~/.zshrc\n" +
			"   skep completion fish | source                  # in ~/.config/fish/config.fish",
		Flags: []cli.Flag{jsonFlag()},
		BashComplete: func(c *cli.Context) {
			for _, shell := range shells {
				fmt.Fprintln(c.App.Writer, shell)
			}
		},
		Action: func(c *cli.Context) error {
			script, ok := completions[c.Args().First()]
			if !ok || c.NArg() != 1 {
				return usage("completion takes a shell").because("one of %s", strings.Join(shells, ", "))
			}
			if c.Bool("json") {
				return p.writeJSON(map[string]string{"shell": c.Args().First(), "script": script})
			}
			_, err := io.WriteString(p.stdout, script)
			return err
		},
	}
}
