//! The parameters of a decoder and what files call them.

use crate::config::ModelConfig;

/// One parameter of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Param {
    /// Token embedding, `[vocab, d_model]`.
    TokenEmbedding,
    /// Output head, `[vocab, d_model]`; absent where it is tied to the embedding.
    OutputHead,
    /// Weight of the norm before the head, `[d_model]`.
    FinalNorm,
    /// A parameter of block `.0`.
    Layer(usize, LayerParam),
}

/// A parameter of one block. Matrices are `[out, in]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerParam {
    /// Norm before attention, `[d_model]`.
    AttnNorm,
    /// Query projection, `[heads * head_dim, d_model]`.
    Wq,
    /// Key projection, `[kv_heads * head_dim, d_model]`.
    Wk,
    /// Value projection, `[kv_heads * head_dim, d_model]`.
    Wv,
    /// Attention output projection, `[d_model, heads * head_dim]`.
    Wo,
    /// Query bias.
    Bq,
    /// Key bias.
    Bk,
    /// Value bias.
    Bv,
    /// Attention output bias.
    Bo,
    /// Norm before the feed-forward network, `[d_model]`.
    MlpNorm,
    /// Gate projection, `[d_ff, d_model]`.
    WGate,
    /// Up projection, `[d_ff, d_model]`.
    WUp,
    /// Down projection, `[d_model, d_ff]`.
    WDown,
    /// Gate bias.
    BGate,
    /// Up bias.
    BUp,
    /// Down bias.
    BDown,
}

/// Which file format's names are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// Hugging Face checkpoints: `model.layers.0.self_attn.q_proj.weight`.
    HuggingFace,
    /// GGUF: `blk.0.attn_q.weight`.
    Gguf,
}

impl Param {
    /// The name under `naming`; Hugging Face names without the leading `model.`.
    pub fn name(self, naming: Naming) -> String {
        use LayerParam::*;
        let hf = naming == Naming::HuggingFace;
        let (layer, part) = match self {
            Param::TokenEmbedding if hf => return "embed_tokens.weight".to_owned(),
            Param::TokenEmbedding => return "token_embd.weight".to_owned(),
            Param::OutputHead if hf => return "lm_head.weight".to_owned(),
            Param::OutputHead => return "output.weight".to_owned(),
            Param::FinalNorm if hf => return "norm.weight".to_owned(),
            Param::FinalNorm => return "output_norm.weight".to_owned(),
            Param::Layer(layer, part) => (layer, part),
        };
        let (hf_name, gguf_name) = match part {
            AttnNorm => ("input_layernorm", "attn_norm"),
            Wq | Bq => ("self_attn.q_proj", "attn_q"),
            Wk | Bk => ("self_attn.k_proj", "attn_k"),
            Wv | Bv => ("self_attn.v_proj", "attn_v"),
            Wo | Bo => ("self_attn.o_proj", "attn_output"),
            MlpNorm => ("post_attention_layernorm", "ffn_norm"),
            WGate | BGate => ("mlp.gate_proj", "ffn_gate"),
            WUp | BUp => ("mlp.up_proj", "ffn_up"),
            WDown | BDown => ("mlp.down_proj", "ffn_down"),
        };
        let kind = match part {
            Bq | Bk | Bv | Bo | BGate | BUp | BDown => "bias",
            _ => "weight",
        };
        if hf {
            format!("layers.{layer}.{hf_name}.{kind}")
        } else {
            format!("blk.{layer}.{gguf_name}.{kind}")
        }
    }

    /// The shape that follows from the configuration, outermost dimension first.
    pub fn shape(self, config: &ModelConfig) -> Vec<usize> {
        use LayerParam::*;
        let (d, q, kv, ff) = (
            config.d_model,
            config.q_width(),
            config.kv_width(),
            config.d_ff,
        );
        match self {
            Param::TokenEmbedding | Param::OutputHead => vec![config.vocab, d],
            Param::FinalNorm => vec![d],
            Param::Layer(_, part) => match part {
                AttnNorm | MlpNorm | Bo | BDown => vec![d],
                Wq => vec![q, d],
                Wk | Wv => vec![kv, d],
                Wo => vec![d, q],
                Bq => vec![q],
                Bk | Bv => vec![kv],
                WGate | WUp => vec![ff, d],
                WDown => vec![d, ff],
                BGate | BUp => vec![ff],
            },
        }
    }
}

/// Order in which a file keeps the rows of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// As the model wants them.
    AsStored,
    /// Query and key rows of GGUF files of architecture `llama`: each head's rows are interleaved so that rope
    /// turns neighbours. File row `2i + j` of a head is row `j * head_dim / 2 + i` of the model.
    Interleaved {
        /// Rows of one head.
        head_dim: usize,
    },
}

impl RowOrder {
    /// The file row that holds row `row` of the model.
    pub fn source(self, row: usize) -> usize {
        match self {
            RowOrder::AsStored => row,
            RowOrder::Interleaved { head_dim } => {
                let (head, within) = (row / head_dim, row % head_dim);
                let (j, i) = (within / (head_dim / 2), within % (head_dim / 2));
                head * head_dim + 2 * i + j
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_formats() {
        let wq = Param::Layer(3, LayerParam::Wq);
        assert_eq!(
            wq.name(Naming::HuggingFace),
            "layers.3.self_attn.q_proj.weight"
        );
        assert_eq!(wq.name(Naming::Gguf), "blk.3.attn_q.weight");
        assert_eq!(
            Param::Layer(0, LayerParam::BDown).name(Naming::Gguf),
            "blk.0.ffn_down.bias"
        );
    }

    #[test]
    fn interleaved_rows_are_a_permutation_of_each_head() {
        let order = RowOrder::Interleaved { head_dim: 6 };
        let rows: Vec<usize> = (0..12).map(|row| order.source(row)).collect();
        assert_eq!(rows, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }
}
