package preview

import "skep/generator/problem"

// The rules of previews: what keeps a stack from having one. None can be waived.
var (
	ruleAllowed = problem.Rule{ID: "preview-not-allowed", Severity: problem.Error, Title: "More than previews may use",
		Doc: "A preview runs what a branch says, beside the original. It asks for a stack, zone, shared network or secret that `previews` in cluster.yaml does not name.\n\n" +
			"Name it there if every preview may have it: `previews: {stacks: [app], zones: [internal], uses: [postgres], secrets: [op://previews]}`. " +
			"Without `uses` a preview is on no shared network but the ingress's, without `secrets` it gets none. Who can change cluster.yaml in a branch can change this list there: " +
			"a pipeline takes cluster.yaml from the default branch."}
	ruleShared = problem.Rule{ID: "preview-shares-data", Severity: problem.Error, Title: "The preview would write to what the original has",
		Doc: "A bind mount, an external volume or a volume with a `device` is one place for the original and for the preview, and so is an external config or secret.\n\n" +
			"Use a volume that the stack declares itself: the preview gets one of its own. A mount that is `read_only` may stay, unless it is an external volume or holds the Docker socket."}
	ruleAlone = problem.Rule{ID: "preview-alone", Severity: problem.Error, Title: "There can be only one",
		Doc: "What the service does cannot be done twice in a Swarm, or reaches the whole of it: a published port, the host's network, the Docker API, a route written by hand as labels, " +
			"being the ingress itself.\n\nPublish it with `x-ingress`, or leave the stack out of previews."}
	ruleName = problem.Rule{ID: "preview-name", Severity: problem.Error, Title: "A name that does not fit",
		Doc: "Everything that a preview has is called after it: `pr-12` makes `pr-12-app` of stack `app`, and `pr-12-app.example.com` of its host. DNS takes 63 characters in a label and 253 in a name, " +
			"a stack's name has at most 40, a service's in the Swarm 63.\n\nGive the preview, the stack or the host a shorter name."}
	ruleTaken = problem.Rule{ID: "preview-name-taken", Severity: problem.Error, Title: "The name is somebody else's",
		Doc: "A stack or host of the preview would have a name that another stack has.\n\nGive the preview another name."}
	ruleOriginal = problem.Rule{ID: "preview-names-original", Severity: problem.Warning, Title: "A text names the original's host",
		Doc: "A variable, header or Caddy label of the preview holds the host of the original. Texts are passed on as they are, so the preview may send people to the original, or refuse requests for its own host.\n\n" +
			"Let the service take its address from the request (`Host`, `X-Forwarded-Host`)."}
)

// Rules lists what a preview can be told.
func Rules() []problem.Rule {
	return []problem.Rule{ruleAllowed, ruleShared, ruleAlone, ruleName, ruleTaken, ruleOriginal}
}
