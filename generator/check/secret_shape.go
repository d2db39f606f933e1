package check

import (
	"regexp"
	"slices"
	"strings"
)

// shape is a kind of token that is known by its looks. Hints are cheap to look
// for: without one of them the expression cannot match.
type shape struct {
	name  string
	hints []string
	re    *regexp.Regexp
	// real takes placeholders out of what the expression found, its first
	// group or all of it.
	real func(string) bool
}

// shapes follow the issuers' documentation, where they have one; for example
// https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-authentication-to-github#githubs-token-formats
// https://developers.cloudflare.com/fundamentals/api/get-started/token-formats
var shapes = []shape{
	{"a private key", []string{"PRIVATE KEY"}, regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----`), nil},
	{"an age identity", []string{"AGE-SECRET-KEY-"}, regexp.MustCompile(`AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]{20,}`), nil},
	{"a GitHub token", []string{"gh", "github_pat_"}, regexp.MustCompile(`\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{36,})`), nil},
	{"a GitLab token", []string{"gl"}, regexp.MustCompile(`\bgl(?:pat|dt|rt|rtr|cbt|ptt|ft|imt|soat|agent|oas)-[0-9A-Za-z_.-]{20,}`), nil},
	{"an AWS access key", []string{"AKIA", "ASIA"}, regexp.MustCompile(`\b(?:AKIA|ASIA)[0-9A-Z]{16}\b`), nil},
	{"a Slack token", []string{"xox", "xapp-", "hooks.slack.com"}, regexp.MustCompile(`\b(?:xox[a-z]-[0-9A-Za-z-]{10,}|xapp-\d-[0-9A-Za-z-]{10,}|hooks\.slack\.com/services/T\w+/B\w+/\w{16,})`), nil},
	{"a Discord webhook", []string{"/api/webhooks/"}, regexp.MustCompile(`discord(?:app)?\.com/api/webhooks/\d{10,}/[\w-]{30,}`), nil},
	{"a Stripe key", []string{"k_live_", "k_test_", "whsec_"}, regexp.MustCompile(`\b(?:[sr]k_(?:live|test)_|whsec_)[0-9A-Za-z+/]{16,}`), nil},
	{"an OpenAI or Anthropic key", []string{"sk-"}, regexp.MustCompile(`\bsk-(?:(?:ant|proj|svcacct|admin|or)-[A-Za-z0-9_-]{20,}|[A-Za-z0-9]{32,}\b)`), nil},
	{"a 1Password service account token", []string{"ops_"}, regexp.MustCompile(`\bops_eyJ[A-Za-z0-9_-]{20,}`), nil},
	{"a Cloudflare token", []string{"cf"}, regexp.MustCompile(`\bcf(?:k|ut|at)_[0-9A-Za-z]{40,}`), nil},
	{"a Cloudflare Tunnel token", []string{"eyJhIjoi"}, regexp.MustCompile(`\beyJhIjoi[A-Za-z0-9+/=_-]{60,}`), nil},
	{"a JSON Web Token", []string{"eyJ"}, regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}`), nil},
	{"a Google API key", []string{"AIza"}, regexp.MustCompile(`\bAIza[0-9A-Za-z_-]{35}`), nil},
	{"a Docker Hub token", []string{"dckr_"}, regexp.MustCompile(`\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}`), nil},
	{"an npm token", []string{"npm_"}, regexp.MustCompile(`\bnpm_[A-Za-z0-9]{36}`), nil},
	{"a PyPI token", []string{"pypi-"}, regexp.MustCompile(`\bpypi-AgE[A-Za-z0-9_-]{50,}`), nil},
	{"a Tailscale key", []string{"tskey-"}, regexp.MustCompile(`\btskey-[a-z]+-[A-Za-z0-9-]{15,}`), nil},
	{"a DigitalOcean token", []string{"_v1_"}, regexp.MustCompile(`\bdo[opr]_v1_[a-f0-9]{64}`), nil},
	{"a Hugging Face token", []string{"hf_"}, regexp.MustCompile(`\bhf_[A-Za-z]{30,}`), nil},
	{"a SendGrid key", []string{"SG."}, regexp.MustCompile(`\bSG\.[\w-]{16,32}\.[\w-]{16,64}`), nil},
	{"a Telegram bot token", []string{":AA"}, regexp.MustCompile(`\b\d{8,12}:AA[\w-]{33}\b`), nil},
	{"a Vault token", []string{"hv"}, regexp.MustCompile(`\bhv[sbr]\.[\w-]{24,}`), nil},
	{"a Grafana token", []string{"glsa_", "glc_"}, regexp.MustCompile(`\b(?:glsa_[A-Za-z0-9]{32}_[a-f0-9]{8}|glc_[A-Za-z0-9+/]{32,})`), nil},
	{"an Authorization header", []string{"earer ", "asic "}, regexp.MustCompile(`\b(?i:bearer|basic) ([A-Za-z0-9+/_.~-]{16,}=*)`), hasDigit},
	{"a URL with a password", []string{"://"}, regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#:@"']*:([^\s/?#@"']+)@`), isValue},
}

// shapeOf names the kind of token that a text holds.
func shapeOf(text string) (string, bool) {
	for _, s := range shapes {
		if !slices.ContainsFunc(s.hints, func(hint string) bool { return strings.Contains(text, hint) }) {
			continue
		}
		for _, m := range s.re.FindAllStringSubmatch(text, -1) {
			if s.real == nil || s.real(m[len(m)-1]) {
				return s.name, true
			}
		}
	}
	return "", false
}

func hasDigit(s string) bool { return strings.ContainsAny(s, "0123456789") }

var variable = regexp.MustCompile(`^\$\$?(?:\{[^}]*\}|\(?[A-Za-z_]\w*\)?)$`)

// isValue reports whether a text is a value, not a place for one: $NAME,
// ${NAME}, {{...}}, {$NAME}, <password>, %s, ***.
func isValue(s string) bool {
	switch {
	case variable.MatchString(s), strings.Contains(s, "{{"), strings.Contains(s, "{$"), strings.HasPrefix(s, "<"),
		strings.HasPrefix(s, "%"), strings.Trim(s, "*.xX") == "":
		return false
	}
	return true
}
