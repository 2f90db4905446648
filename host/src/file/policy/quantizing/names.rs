//! What a tensor is, by its name: names of PyTorch models and of llama.cpp.

/// A kind of tensors that quantizers leave alone by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameKind {
    /// Embeddings, positions, norms and biases: small, or looked up instead of multiplied. A pattern that selects them
    /// asks for them.
    Lookup,
    /// Routers, code books, parameters of state-space models, scales and zero points: a few numbers on which all others
    /// depend. Only a rule with a format asks for them.
    Critical,
}

/// Largest number of experts. A matrix called `gate` with more rows is half of a gated layer, not a router.
const MAX_EXPERTS: usize = 1024;

/// Words of embeddings: looked up by an index.
const EMBEDDINGS: [&str; 8] =
    ["embed", "embeds", "embedding", "embeddings", "embd", "emb", "wte", "wpe"];
/// Last words of layers that are multiplied with embeddings.
const OF_EMBEDDINGS: [&str; 5] = ["proj", "projection", "layers", "out", "head"];
/// First words of what small networks turn into embeddings: layers of a sequence, `time_embed.0`.
const EMBEDDED: [&str; 3] = ["time", "label", "text"];
/// Words of positions and of tokens that are learned as such.
const POSITIONS: [&str; 5] = ["position", "positions", "positional", "token", "tokens"];
/// Words of scales and zero points, and of code books.
const SCALES: [&str; 12] = [
    "scale",
    "scales",
    "wscales",
    "ascales",
    "absmax",
    "scb",
    "zeros",
    "qzeros",
    "codebook",
    "codebooks",
    "centroid",
    "centroids",
];
/// Names of parameters of state-space models, linear attention and RWKV, and of DeepSeek's indexer: all words of a part.
const STATE_SPACE: [&[&str]; 14] = [
    &["a", "log"],
    &["x", "proj"],
    &["dt", "proj"],
    &["dt"],
    &["conv1d"],
    &["ssm", "a"],
    &["ssm", "d"],
    &["ssm", "x"],
    &["ssm", "dt"],
    &["ssm", "conv1d"],
    &["in", "proj", "ba"],
    &["igate", "preact"],
    &["fgate", "preact"],
    &["weights", "proj"],
];
/// What such a name starts with.
const STATE_SPACE_STARTS: [&[&str]; 8] = [
    &["time", "decay"],
    &["time", "first"],
    &["time", "faaaa"],
    &["time", "state"],
    &["time", "maa"],
    &["time", "mix", "lerp"],
    &["time", "mix", "w1"],
    &["time", "mix", "w2"],
];

/// Returns the kind of the tensor `name`, a matrix of this size, or `None` for a linear layer and whatever is unknown.
///
/// Names consist of parts (`model.layers.0.mlp.gate.weight`), and parts of words. Only whole words count, of the part
/// that says what the tensor is: the last one, unless that is only `weight`. So `norm1.linear.weight` is a linear layer,
/// and `normalizer.weight` no norm.
pub(super) fn kind(name: &str, rows: usize, cols: usize) -> Option<NameKind> {
    let name = name.to_ascii_lowercase();
    let parts = Parts::new(&name)?;
    if is_critical(&parts, rows, cols) {
        return Some(NameKind::Critical);
    }
    is_lookup(&parts).then_some(NameKind::Lookup)
}

/// The parts of a name.
struct Parts<'a> {
    /// The words of the part that says what the tensor is.
    subject: Vec<&'a str>,
    /// The words of each part before the subject, without numbers.
    before: Vec<Vec<&'a str>>,
    /// Whether the subject is a sequence, and the tensor of one of its layers: `subject.0.weight`.
    is_numbered: bool,
}

impl<'a> Parts<'a> {
    /// `None` for a name without any word.
    fn new(name: &'a str) -> Option<Self> {
        let parts = name.split(['.', '/', ':']);
        let mut parts: Vec<Vec<&str>> = parts
            .map(|part| part.split(['_', '-']).filter(|word| !word.is_empty()).collect())
            .filter(|part: &Vec<&str>| !part.is_empty())
            .collect();
        // `layer_norm_weight` says what it is, `weight` does not.
        if let Some(last) = parts.last_mut() {
            last.retain(|word| !["weight", "kernel"].contains(word));
        }
        let is_number = |part: &Vec<&str>| part.iter().all(|word| word.parse::<u32>().is_ok());
        let is_numbered = parts.iter().rev().find(|part| !part.is_empty()).is_some_and(is_number);
        // Numbers count layers, or are the places of layers in a sequence.
        parts.retain(|part| !is_number(part));
        let subject = parts.pop()?;
        Some(Self { subject, before: parts, is_numbered })
    }

    /// Returns whether one of `words` is in the subject.
    fn has(&self, words: &[&str]) -> bool {
        self.subject.iter().any(|word| words.contains(word))
    }

    /// Returns whether one of `words` is in any part.
    fn has_anywhere(&self, words: &[&str]) -> bool {
        self.has(words) || self.before.iter().flatten().any(|word| words.contains(word))
    }

    /// Returns whether the subject contains `words`, one after another.
    fn contains(&self, words: &[&str]) -> bool {
        self.subject.windows(words.len()).any(|window| window == words)
    }

    /// Returns whether the subject, or the part before it, is these words.
    fn is_or_is_in(&self, words: &[&str]) -> bool {
        self.subject == words || self.before.last().is_some_and(|part| part == words)
    }
}

/// Returns whether a name is that of a tensor on which others depend.
fn is_critical(parts: &Parts<'_>, rows: usize, cols: usize) -> bool {
    let is_attention = parts.has_anywhere(&["attn", "attention", "att"]);
    let may_be_router = rows <= MAX_EXPERTS && rows <= cols;
    let is_gate =
        parts.is_or_is_in(&["gate"]) && !is_attention && !parts.has_anywhere(&["experts"]);
    let is_router = parts.has_anywhere(&["router", "routers"])
        || may_be_router
            && (is_gate
                || parts.subject.ends_with(&["expert", "gate"])
                || parts.contains(&["gate", "inp"]));
    let is_head = parts.subject.last() == Some(&"head");
    let is_scale = parts.has(&SCALES)
        || parts.contains(&["zero", "point"])
        || parts.before.last().is_some_and(|part| part.contains(&"codebook"));
    let is_state_space = STATE_SPACE.contains(&parts.subject.as_slice())
        || STATE_SPACE_STARTS.iter().any(|start| parts.subject.starts_with(start));
    is_router || is_state_space || is_scale && !is_head
}

/// Returns whether a name is that of a tensor that is looked up, or of a norm or bias.
fn is_lookup(parts: &Parts<'_>) -> bool {
    let first = parts.subject.first().copied().unwrap_or_default();
    let last = parts.subject.last().copied().unwrap_or_default();
    let is_layer = OF_EMBEDDINGS.contains(&last) || parts.is_numbered && EMBEDDED.contains(&first);
    let is_norm = |word: &&str| {
        let word = word.trim_end_matches(|c: char| c.is_ascii_digit());
        word.ends_with("norm") || ["norms", "ln", "bn"].contains(&word)
    };
    (parts.has(&EMBEDDINGS) || parts.has(&POSITIONS)) && !is_layer
        || parts.has(&["bias", "biases"])
        || parts.subject.iter().any(is_norm)
        || parts.contains(&["rel", "pos"])
        // The embedding of T5.
        || parts.subject == ["shared"]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(kind_of: Option<NameKind>, names: &[&str]) {
        for name in names {
            assert_eq!(kind(name, 256, 1024), kind_of, "{name}");
        }
    }

    #[test]
    fn linear_layers_of_all_kinds_are_taken() {
        all(
            None,
            &[
                "model.layers.0.self_attn.q_proj.weight",
                "model.layers.0.mlp.gate_proj.weight",
                "model.layers.0.mlp.experts.7.w1.weight",
                "model.layers.0.mlp.experts.gate_up_proj",
                "lm_head.weight",
                "blk.0.ffn_gate.weight",
                "blk.0.attn_q.weight",
                "output.weight",
                "transformer_blocks.0.norm1.linear.weight",
                "double_blocks.0.img_mod.lin.weight",
                "time_embedding.linear_1.weight",
                "x_embedder.weight",
                "patch_embed.proj.weight",
                "normalizer.proj.weight",
                "debiased.weight",
                "final_layer.adaLN_modulation.1.weight",
                "layernorm_mlp.fc1_weight",
                "encoder.attn.in_proj_weight",
                "transformer.h.0.attn.c_attn.weight",
                "mixer.in_proj.weight",
                "blk.0.ssm_in.weight",
                "visual.blocks.0.attn.qkv.weight",
                "blk.0.time_mix_key.weight",
                "rwkv.blocks.0.attention.gate.weight",
                "experts.3.gate.weight",
                "codebook0_head.weight",
                "codebook_head.weight",
                "x1_proj.weight",
                "encoder/layer_norm_mlp/fc1/kernel",
                "gpt_neox.embed_out.weight",
                "time_embed.0.weight",
                "emb_layers.1.weight",
                "label_emb.0.0.weight",
                "time_emb_proj.weight",
                "text_embedding.2.weight",
                "embed_vision.embedding_projection.weight",
                "",
                "weight",
                "0.weight",
            ],
        );
    }

    #[test]
    fn what_is_looked_up_is_left_alone() {
        all(
            Some(NameKind::Lookup),
            &[
                "model.embed_tokens.weight",
                "transformer.wte.weight",
                "transformer.wpe.weight",
                "token_embd.weight",
                "shared.weight",
                "emb.weight",
                "bert.embeddings.word_embeddings.weight",
                "decoder.embed_positions.weight",
                "visual.positional_embedding",
                "vision.pos_embed",
                "cls_token",
                "attn.rel_pos_h",
                "input_layernorm.weight",
                "blk.0.attn_norm.weight",
                "norm1.weight",
                "ln_f.weight",
                "layernorm_mlp.layer_norm_weight",
                "attn.relative_attention_bias.weight",
                "q_proj.bias",
                "input_embeds_layer.weight",
                "decoder.embed_tokens.0.weight",
            ],
        );
    }

    #[test]
    fn what_others_depend_on_is_left_alone() {
        all(
            Some(NameKind::Critical),
            &[
                "model.layers.0.mlp.gate.weight",
                "model.layers.0.block_sparse_moe.gate.weight",
                "model.layers.0.mlp.router.weight",
                "mlp.router.classifier.weight",
                "mlp.gate.wg.weight",
                "mlp.shared_expert_gate.weight",
                "blk.0.ffn_gate_inp.weight",
                "quantizer.codebook",
                "vq.layers.0._codebook.embed",
                "mixer.x_proj.weight",
                "mixer.dt_proj.weight",
                "mixer.A_log",
                "blk.0.ssm_x.weight",
                "blocks.0.att.time_decay",
                "blocks.0.att.time_decay_w1",
                "blocks.0.att.time_maa_w2",
                "blk.0.time_mix_lerp_w.weight",
                "self_attn.indexer.weights_proj.weight",
                "linear_attn.in_proj_ba.weight",
                "down_proj.res_centroids.weight",
                "q_proj.weight_scale_inv",
                "q_proj.scales",
                "q_proj.qzeros",
                "q_proj.weight_zero_point",
                "q_proj.SCB",
            ],
        );
        // Half of a gated layer, which some models call by the same name.
        assert_eq!(kind("mlp.gate.weight", 4096, 2048), None);
    }
}
